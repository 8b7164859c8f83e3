"""Candidates on integer values: the twins of oneDNN's products with constant weights, and what makes their operands.

A twin reads the eight-bit forms of data and weight (:class:`tpopt.passes.precision.quantized.Quantized`), sums their
products in 32-bit integers, and stores its result as it is, narrow, or in eight bits again for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Final

from tpopt.backend.library.linear import row_count
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Kernel, Program, Read, Tensor, index
from tpopt.ir.walk import postorder, stage_reads
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage, over
from tpopt.rewrite.contraction import contraction
from tpopt.rewrite.numerics import Numerics

TWINS: Final = MappingProxyType(
    {"onednn.linear": "onednn.integer_linear", "onednn.convolution": "onednn.integer_convolution"}
)
"""Library kernels that have a twin on integers."""
WEIGHT_ONLY: Final = "aten"
FEW_ROWS: Final = 8
"""Rows of a product up to which reading the weight is most of its time (at 16 rows torch's kernel is slower again)."""
LARGE_WEIGHT: Final = 1 << 16
"""Elements from which a weight is worth reading in bytes."""
VOLUME: Final = 5
"""Rank of the data of a convolution over volumes, to whose integers torch fuses nothing."""


def integer_twins(found: Candidates, storage: Quantized, narrower: Sequence[Storage]) -> None:
    """Adds the twins of what is admitted, each with every type that its result may be stored in."""
    for candidate in list(found.admitted):
        stage = candidate.stage
        if not isinstance(stage, Kernel) or stage.implementation not in TWINS or not _is_plain(stage, storage):
            continue
        for target in _targets(stage.outs[0], storage, narrower):
            twin = _twin(candidate, stage, storage, target)
            if twin is not None:
                found.add(twin)


def weight_twins(found: Candidates, storage: Quantized, narrower: Sequence[Storage]) -> None:
    """Adds products of a few rows with weights of a byte: what such a product costs is reading its weight."""
    for candidate in list(found.admitted):
        stage = candidate.stage
        if not isinstance(stage, Kernel) or stage.implementation != "onednn.linear" or not _is_plain(stage, storage):
            continue
        own = dict(stage.parameters)
        rows = row_count(stage.reads[0], int(str(own["depth"])))
        if own["activation"] or own["binary"] or rows is None or rows > FEW_ROWS:
            continue
        for narrow in narrower:
            _weight_twin(found, candidate, stage, storage, narrow)


def _weight_twin(found: Candidates, candidate: Candidate, stage: Kernel, storage: Quantized, narrow: Storage) -> None:
    x, w, *rest = stage.reads
    weight = storage.weight(w, weight_axes(stage))
    source, out = narrow.narrow(x), narrow.narrow(stage.outs[0])
    if weight is None or source is x or out is stage.outs[0]:
        return
    forms: dict[Tensor, tuple[Tensor, Storage]] = {
        x: (source, narrow), w: (weight[0], storage), stage.outs[0]: (out, narrow),
    }  # fmt: skip
    defines = tuple(over(s, forms) for s in stage.defines if isinstance(s, Compute))
    made = Kernel((out,), "aten.weight_linear", (source, weight[0], *rest, weight[1]), defines, stage.parameters)
    found.add(
        replace(
            candidate,
            name=f"{candidate.name}.weight-i8",
            kind=WEIGHT_ONLY,
            stage=made,
            needs=tuple(Value(source.name if v.name == x.name else v.name, v.layout) for v in candidate.needs),
            produces=(Value(out.name),),
            key=kernel_key(made, ""),
            numerics=Numerics.APPROXIMATE,
        )
    )


def _is_plain(stage: Kernel, storage: Quantized) -> bool:
    """Whether a product has operands that may be integers."""
    own = dict(stage.parameters)
    fused = own["binary"] or own["activation"]
    wide = stage.reads[0].dtype is storage.wide and stage.outs[0].dtype is storage.wide
    return (
        wide and not own.get("transposed") and own.get("columns") != () and (not fused or stage.reads[0].rank != VOLUME)
    )


def _targets(out: Tensor, storage: Quantized, narrower: Sequence[Storage]) -> Iterator[tuple[Tensor, Storage | None]]:
    """Where a result may be stored, and by which storage (none: as it is)."""
    yield out, None
    for other in (*narrower, storage):
        if other.narrow(out) is not out:
            yield other.narrow(out), other


def _twin(
    candidate: Candidate, stage: Kernel, storage: Quantized, target: tuple[Tensor, Storage | None]
) -> Candidate | None:
    x, w, *rest = stage.reads
    codes, weight = storage.narrow(x), storage.weight(w, weight_axes(stage))
    out, stored = target
    if codes is x or weight is None:
        return None
    forms: dict[Tensor, tuple[Tensor, Storage]] = {x: (codes, storage), w: (weight[0], storage)}
    beside = [storage.affine(codes), weight[1]]
    if dict(stage.parameters)["binary"] and stored is not None:
        other = stored.narrow(rest[-1])
        if other is rest[-1] or rest[-1] is x:
            return None
        forms[rest[-1]] = other, stored
        beside += [storage.affine(other)] if stored is storage else []
    if stored is not None:
        forms[stage.outs[0]] = out, stored
        beside += [storage.affine(out)] if stored is storage else []
    mapped = {t: narrow for t, (narrow, _) in forms.items()}
    reads = (codes, weight[0], *(mapped.get(t, t) for t in rest), *beside)
    defines = tuple(over(s, forms) for s in stage.defines if isinstance(s, Compute))
    made = Kernel((out,), TWINS[stage.implementation], reads, defines, (*stage.parameters, ("beside", len(beside))))
    by_name = {t.name: mapped.get(t, t).name for t in stage.reads}
    needs = tuple(Value(by_name[v.name], v.layout) for v in candidate.needs)
    layouts = ">".join(v.layout for v in (*needs, *candidate.produces))
    return replace(
        candidate,
        name=f"{candidate.name}.i8" + ("" if stored is None else f"-to-{out.dtype}"),
        stage=made,
        needs=needs,
        produces=(Value(out.name, candidate.produces[0].layout),),
        key=kernel_key(made, layouts),
        numerics=Numerics.APPROXIMATE,
    )


def weight_axes(stage: Kernel) -> tuple[int, ...]:
    """The axes of a kernel's weight that run over columns of the product, or filters."""
    own = dict(stage.parameters)
    if stage.implementation == "onednn.convolution":
        return (0,)
    order, columns, shape = own["w_order"], own["columns"], stage.reads[1].shape
    assert isinstance(order, tuple)
    assert isinstance(columns, tuple)
    axes = [int(str(a)) for a in order]
    places = range(len(axes) - len(columns) + 1)  # axes of extent 1 that no loop reads come first
    first = next(k for k in places if tuple(shape[a] for a in axes[k : k + len(columns)]) == columns)
    return tuple(axes[first : first + len(columns)])


def encoded_form(program: Program, storage: Quantized, values: Storage | None) -> Program:
    """The program with the codes of its values made right after them, as outputs: what they are fused with.

    Codes are made of what somebody reads codes of; ``values`` is the storage whose narrow form the program is. Products
    have no place here: what multiplies has twins, and what it makes is an input.
    """
    wanted = _coded(storage)
    stages: list[Compute] = []
    codes: dict[Tensor, None] = {}
    for stage in program.stages:
        if not isinstance(stage, Compute) or contraction(stage) is not None:
            continue
        stages.append(stage)
        for out in stage.outs:
            wide = out if values is None else values.origin.get(out.name, out)
            if wide in wanted and storage.narrow(wide) not in codes:
                stages.append(storage.conversion(out, storage.narrow(wide)))
                codes[storage.narrow(wide)] = None
    made = {o for s in stages for o in s.outs}
    kept = [o for s in stages for o in s.outs if o not in codes and _is_read_elsewhere(o, program, made)]
    return _alone(program, storage, stages, (*codes, *kept))


def byte_weights(program: Program, storage: Quantized) -> Program:
    """The program with weights of a byte in products of a few rows, everything else as it is."""
    changing = {a.target for a in program.aliases}
    constants = {w for w in program.weights if w.name in program.constants and w.name not in changing}
    stages, new = [], dict[Tensor, None]()
    for stage in program.stages:
        found = _byte_weight(stage, constants, storage) if isinstance(stage, Compute) else None
        if found is None:
            stages.append(stage)
            continue
        weight, made, axes_read = found
        assert isinstance(stage, Compute)
        stages.append(over(stage, {weight: (made, storage)}))
        new.update(dict.fromkeys((made, axes_read)))
    values = {t.name: v for t, v in storage.constants() if t in new}
    used = {t for s in stages for t in stage_reads(s)}
    kept = tuple(w for w in program.weights if w in used or w in program.outputs)
    return replace(
        program,
        stages=tuple(stages),
        weights=(*kept, *new),
        constants=MappingProxyType({**program.constants, **values}),
    ).validate()


def _byte_weight(stage: Compute, constants: Set[Tensor], storage: Quantized) -> tuple[Tensor, Tensor, Tensor] | None:
    """A weight that few rows are multiplied by, its codes and its scales."""
    found = contraction(stage)
    if found is None or stage.outs[0].dtype is not storage.wide:
        return None
    reads = [read for _, read in found.weights(constants)]
    if len(reads) != 1 or prod(e for e in reads[0].tensor.shape if isinstance(e, int)) < LARGE_WEIGHT:
        return None
    (read,) = reads
    own = {i: a for a, where in enumerate(read.indices) for i in stage.loops if where is index(i)}
    rows = [i.extent for i in stage.loops if i not in own]
    several = sum(isinstance(t, Read) and t.tensor is read.tensor for t in postorder(*stage.bodies)) != 1
    if several or not own or any(not isinstance(e, int) for e in rows) or prod(map(int, map(str, rows))) > FEW_ROWS:
        return None
    made = storage.weight(read.tensor, tuple(own.values()))
    return None if made is None else (read.tensor, *made)


def coded_form(program: Program, storage: Quantized) -> Program:
    """What computes codes from codes without multiplying two values: pooling, activations, sums."""
    wanted = _coded(storage)
    stages = []
    for stage in program.stages:
        if not isinstance(stage, Compute) or contraction(stage) is not None:
            continue
        moving = [t for t in stage_reads(stage) if not storage.is_constant(t)]
        if moving and wanted.issuperset((*moving, *stage.outs)):
            stages.append(storage.stage(stage, lambda t: storage.narrow(t) if t in wanted else t))
    return _alone(program, storage, stages, [o for s in stages for o in s.outs])


def _coded(storage: Quantized) -> frozenset[Tensor]:
    """The values whose codes somebody asked for so far."""
    return frozenset(t for t in storage.origin.values() if not storage.is_constant(t))


def _alone(program: Program, storage: Quantized, stages: Sequence[Compute], outputs: Sequence[Tensor]) -> Program:
    """Some stages as a program: what they read and do not make is given."""
    made = {o for s in stages for o in s.outs}
    read = dict.fromkeys(t for s in stages for t in stage_reads(s) if t not in made)
    values = {**program.constants, **{t.name: v for t, v in storage.constants()}}
    beside = {t for t, _ in storage.constants()}
    weights = tuple(t for t in read if t in beside or t in program.weights)
    return replace(
        program,
        inputs=tuple(t for t in read if t not in weights),
        weights=weights,
        stages=tuple(stages),
        outputs=tuple(outputs),
        aliases=(),
        constants=MappingProxyType({t.name: values[t.name] for t in weights if t.name in values}),
    ).validate()


def _is_read_elsewhere(tensor: Tensor, program: Program, made: set[Tensor]) -> bool:
    """Whether somebody outside the stages that make ``made`` reads a tensor, or it is a result."""
    readers = (s for s in program.stages if tensor in stage_reads(s))
    return tensor in program.outputs or any(not made.issuperset(s.outs) for s in readers)
