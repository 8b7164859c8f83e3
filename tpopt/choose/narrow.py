"""Candidates on narrow values: the twins of library kernels, what is generated for the narrow form, conversions.

A library that has a kernel in one float type has it in the others; its twin reads and yields the narrow values of the
same tensors (:class:`tpopt.passes.precision.storage.Storage`). All of them are ``approximate``: they are admitted under
a budget alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from tpopt.backend.generated.candidates import KIND as GENERATED
from tpopt.choose.candidate import ROW, Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Kernel, Program, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.passes.precision.storage import Storage, conversion
from tpopt.rewrite.numerics import Numerics

CONVERT: Final = "convert"
_NO_TWIN: Final = frozenset({GENERATED, "layout", "mkl", "original", "torch"})
"""Kinds whose kernels are made for one program, are none of a library, or know one type (MKL's packed product)."""


def twins(found: Candidates, storage: Storage) -> None:
    """Adds the twin of every library kernel that computes something narrow."""
    for candidate in list(found.admitted):
        if candidate.kind in _NO_TWIN or not isinstance(candidate.stage, Kernel):
            continue
        stage = storage.kernel(candidate.stage)
        if stage is None or any(o in candidate.stage.outs for o in stage.outs):
            continue
        found.add(
            replace(
                candidate,
                name=f"{candidate.name}.{storage.dtype}",
                stage=stage,
                needs=tuple(_narrow(v, candidate.stage.reads, storage) for v in candidate.needs),
                produces=tuple(_narrow(v, candidate.stage.outs, storage) for v in candidate.produces),
                key=kernel_key(stage, _layouts(candidate)),
                numerics=Numerics.EXACT if candidate.free else Numerics.APPROXIMATE,
            )
        )


def _narrow(value: Value, tensors: Iterable[Tensor], storage: Storage) -> Value:
    tensor = next((t for t in tensors if t.name == value.name), None)
    return value if tensor is None else Value(storage.narrow(tensor).name, value.layout)


def _layouts(candidate: Candidate) -> str:
    """What a price depends on besides the operands."""
    return ">".join(",".join(v.layout for v in side) for side in (candidate.needs, candidate.produces))


def approximate(candidate: Candidate, storage: Storage) -> Candidate:
    """A candidate of a narrow form under its label."""
    return replace(candidate, numerics=Numerics.APPROXIMATE) if rounded(candidate, storage) else candidate


def rounded(candidate: Candidate, storage: Storage) -> tuple[str, ...]:
    """Names of the narrow values that a candidate computes, inside too, and of the narrow weights it reads."""
    if candidate.free or not isinstance(candidate.stage, Kernel):
        return ()
    makes = dict.fromkeys(o for s in (candidate.stage, *candidate.stage.defines) for o in s.outs)
    reads = (t for t in stage_reads(candidate.stage) if t.name in storage.origin)
    weights = (t for t in reads if storage.is_constant(storage.origin[t.name]))
    return tuple(t.name for t in (*(o for o in makes if o.name in storage.origin), *weights))


def conversions(found: Candidates, storage: Storage, original: Program) -> None:
    """Adds both conversions of every tensor that some candidate takes or makes narrow, in each layout in use."""
    used = {v for c in found.admitted for v in (*c.needs, *c.produces)}
    used |= {Value(t.name) for t in (*original.inputs, *original.outputs)}
    for name, wide in list(storage.origin.items()):
        narrow = storage.narrow(wide)
        if storage.is_constant(wide):
            found.weights[narrow] = storage.value(wide)
            continue
        layouts = sorted({v.layout for v in used if v.name == name} | ({ROW} if Value(wide.name) in used else set()))
        for layout in layouts:
            found.add(_conversion(wide, narrow, layout, narrows=True))
            if wide not in original.inputs:
                found.add(_conversion(narrow, wide, layout, narrows=False))


def _conversion(source: Tensor, target: Tensor, layout: str, *, narrows: bool) -> Candidate:
    stage = Kernel((target,), CONVERT, (source,), (conversion(source, target),), ())
    name = f"{source.name}:to-{target.dtype}{'-' if layout else ''}{layout}"
    label = Numerics.APPROXIMATE if narrows else Numerics.EXACT
    needs, makes = (Value(source.name, layout),), (Value(target.name, layout),)
    return Candidate(name, CONVERT, stage, needs, makes, kernel_key(stage, layout), label)


def opposites(candidates: Iterable[Candidate]) -> Iterator[tuple[int, int]]:
    """Positions of conversions of which one undoes the other: no plan needs both."""
    names: dict[tuple[str, str], list[int]] = {}
    for k, c in enumerate(candidates):
        if c.kind == CONVERT:
            names.setdefault((c.needs[0].name, c.produces[0].name), []).append(k)
    for (source, target), forward in names.items():
        if source < target:
            yield from ((a, b) for a in forward for b in names.get((target, source), ()))
