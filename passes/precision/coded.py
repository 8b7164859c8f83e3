"""Forms of a program around codes of eight bits: what is computed next to integer products, and on weights of a byte.

Products of codes are a library's; what makes their operands or takes their results is algebra like everything else, so
that kernels are generated for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Final

from tpopt.ir import Compute, Program, Read, Tensor, index
from tpopt.ir.walk import postorder, stage_reads
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage, over, stored_narrow
from tpopt.rewrite.contraction import contraction

FEW_ROWS: Final = 8
"""Rows of a product up to which reading the weight is most of its time (at 16 rows torch's kernel is slower again)."""
LARGE_WEIGHT: Final = 1 << 16
"""Elements from which a weight is worth reading in bytes."""


def coded_forms(program: Program, storage: Quantized, narrow: Mapping[Storage, Program]) -> Iterator[Program]:
    """What may be generated with codes in it: parts of the program, and the program with weights of a byte.

    ``narrow`` has the forms of the program that store its values otherwise. Codes are made of what somebody asked the
    storage for so far.
    """
    if any(not storage.is_constant(t) for t in storage.origin.values()):
        yield _encoded(program, storage, None)
        for other, form in narrow.items():
            yield _encoded(form, storage, other)
        yield _between_codes(program, storage)
    bytewise = byte_weights(program, storage)
    if bytewise is program:
        return
    yield bytewise
    for other in narrow:
        other.learn(bytewise)
        yield stored_narrow(bytewise, other)


def _encoded(program: Program, storage: Quantized, values: Storage | None) -> Program:
    """The program with the codes of its values made right after them, as outputs: what they are fused with.

    Codes are made of what somebody reads codes of; ``values`` is the storage whose narrow form the program is. Products
    have no place here: what multiplies has twins, and what it makes is an input.
    """
    wanted = coded(storage)
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
    """The program with weights of a byte in products of a few rows; the program itself where there are none."""
    changing = {a.target for a in program.aliases}
    constants = {w for w in program.weights if w.name in program.constants and w.name not in changing}
    stages, made = [], dict[Tensor, None]()
    for stage in program.stages:
        weight = _weight_of_few_rows(stage, constants) if isinstance(stage, Compute) else None
        found = storage.weight(*weight) if weight is not None else None
        if weight is None or found is None or not isinstance(stage, Compute):
            stages.append(stage)
            continue
        stages.append(over(stage, {weight[0]: (found[0], storage)}))
        made.update(dict.fromkeys(found))
    if not made:
        return program
    values = {t.name: v for t, v in storage.constants() if t in made}
    used = {t for s in stages for t in stage_reads(s)}
    kept = tuple(w for w in program.weights if w in used or w in program.outputs)
    return replace(
        program,
        stages=tuple(stages),
        weights=(*kept, *made),
        constants=MappingProxyType({**program.constants, **values}),
    ).validate()


def _weight_of_few_rows(stage: Compute, constants: Set[Tensor]) -> tuple[Tensor, tuple[int, ...]] | None:
    """The one large weight that a product of a few rows reads, and its axes that the loops run over."""
    found = contraction(stage)
    reads = [] if found is None else [read for _, read in found.weights(constants)]
    if len(reads) != 1 or prod(e for e in reads[0].tensor.shape if isinstance(e, int)) < LARGE_WEIGHT:
        return None
    (read,) = reads
    own = {i: axis for axis, where in enumerate(read.indices) for i in stage.loops if where is index(i)}
    rows = [i.extent for i in stage.loops if i not in own]
    few = prod(e if isinstance(e, int) else FEW_ROWS + 1 for e in rows) <= FEW_ROWS
    once = sum(isinstance(t, Read) and t.tensor is read.tensor for t in postorder(*stage.bodies)) == 1
    return (read.tensor, tuple(own.values())) if own and few and once else None


def _between_codes(program: Program, storage: Quantized) -> Program:
    """What computes codes from codes without multiplying two values: pooling, activations, sums."""
    wanted = coded(storage)
    stages = []
    for stage in program.stages:
        if not isinstance(stage, Compute) or contraction(stage) is not None:
            continue
        moving = [t for t in stage_reads(stage) if not storage.is_constant(t)]
        if moving and wanted.issuperset((*moving, *stage.outs)):
            stages.append(storage.stage(stage, lambda t: storage.narrow(t) if t in wanted else t))
    return _alone(program, storage, stages, [o for s in stages for o in s.outs])


def coded(storage: Quantized) -> frozenset[Tensor]:
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
