"""Library candidates on codes of eight bits: the twins of oneDNN's products with constant weights.

A twin reads the eight-bit forms of data and weight (:class:`tpopt.passes.precision.quantized.Quantized`), sums their
products in 32-bit integers, and stores its result as it is, narrow, or in eight bits again for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from tpopt.backend.library.linear import row_count
from tpopt.backend.machine import integers_are_exact
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Kernel, Tensor
from tpopt.passes.precision.coded import FEW_ROWS
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage, over
from tpopt.rewrite.numerics import Numerics

TWINS: Final = MappingProxyType(
    {"onednn.linear": "onednn.integer_linear", "onednn.convolution": "onednn.integer_convolution"}
)
"""Library kernels that have a twin on integers."""
SATURATES: Final = "sums of products of bytes saturate at 16 bits on this processor, which has no VNNI"
WEIGHT_ONLY: Final = "aten"
"""The kind of torch's own product of bf16 values with weights of a byte."""
CODES_AT_ONCE: Final = 16
"""Torch's product reads so many codes of a row at once: past the end of the weight where rows are no multiple of it."""
VOLUME: Final = 5
"""Rank of the data of a convolution over volumes, to whose integers torch fuses nothing."""


def integer_twins(found: Candidates, storage: Quantized, narrower: Sequence[Storage]) -> None:
    """Adds the twins of what is admitted, each with every type that its result may be stored in."""
    for candidate in list(found.admitted):
        stage = candidate.stage
        if not isinstance(stage, Kernel) or stage.implementation not in TWINS or not _is_plain(stage, storage):
            continue
        if not integers_are_exact():
            found.refuse(f"{candidate.name}.i8", candidate.kind, candidate.covers, SATURATES)
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
        depth = int(str(own["depth"]))
        rows = row_count(stage.reads[0], depth)
        if own["activation"] or own["binary"] or rows is None or rows > FEW_ROWS or depth % CODES_AT_ONCE:
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
