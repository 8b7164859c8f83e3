"""Whether every read, lookup and scatter of a program is proved to stay inside its tensor.

A program that was traced has this property by construction. One that comes from a file has to show it before its loops
become machine code.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final, TypeAlias

from tpopt.ir.bounds import nonnegative, within
from tpopt.ir.index import Index, IndexLike, Iter, Lookup, Symbol, evaluate, index, walk_atoms
from tpopt.ir.program import Program
from tpopt.ir.stages import Compute, Cond, Kernel, Scan, Scatter, Stage
from tpopt.ir.terms import Guard, Scalar, Select, Tensor
from tpopt.ir.walk import children, own_indices

Context: TypeAlias = "tuple[tuple[Guard, bool], ...]"

MOST_POINTS: Final = 1 << 16
"""Points of an iteration space that are tried one by one where no proof is found."""


def unproved(program: Program) -> str | None:
    """The first access that may leave its tensor, as text; ``None`` where all are proved to stay inside."""
    return next((found for stage in _all_stages(program.stages) for found in _unproved(stage)), None)


def _all_stages(stages: tuple[Stage, ...]) -> Iterator[Stage]:
    pending = list(reversed(stages))
    while pending:
        stage = pending.pop()
        yield stage
        match stage:
            case Kernel():
                pending += reversed(stage.defines)
            case Scan():
                pending += reversed(stage.body.stages)
            case Cond():
                pending += reversed((*stage.then.stages, *stage.otherwise.stages))


def _unproved(stage: Stage) -> Iterator[str]:
    match stage:
        case Compute():
            yield from _terms(stage.bodies, ())
        case Scatter():
            context: Context = () if stage.guard is None else ((stage.guard, True),)
            yield from _access(stage.out, stage.at, context)
            for where in stage.at:
                yield from _lookups(where, context)
            yield from _terms((stage.value,), context)


def _terms(roots: tuple[Scalar, ...], outer: Context) -> Iterator[str]:
    pending: list[tuple[Scalar, Context]] = [(r, outer) for r in roots]
    seen: set[tuple[Scalar, Context]] = set()
    while pending:
        term, context = pending.pop()
        if (term, context) in seen:
            continue
        seen.add((term, context))
        for where in own_indices(term):
            yield from _lookups(where, context)
        tensor = getattr(term, "tensor", None)
        if isinstance(tensor, Tensor):
            yield from _access(tensor, getattr(term, "indices"), context)  # noqa: B009 - a Read
        if isinstance(term, Select):
            pending += [(term.inside, (*context, (term.guard, True))), (term.outside, (*context, (term.guard, False)))]
        else:
            pending += [(c, context) for c in children(term)]


def _lookups(where: Index, context: Context) -> Iterator[str]:
    """Where a lookup itself reads; that its value lies between its bounds is checked when it is read."""
    for atom in walk_atoms(where):
        if isinstance(atom, Lookup):
            yield from _access(atom.tensor, atom.indices, context)


def _access(tensor: Tensor, indices: tuple[Index, ...], context: Context) -> Iterator[str]:
    for where, extent in zip(indices, tensor.shape, strict=True):
        if not (within(where, 0, extent) or _guarded(where, extent, context) or _tried(where, extent, context)):
            yield f"{tensor.name}[{', '.join(map(str, indices))}] may leave {tensor!r}"
            return


def _guarded(where: Index, extent: IndexLike, context: Context) -> bool:
    """Whether the guards around it bound it from below and from above."""
    bounds = [b for guard, holds in context if holds for b in guard.bounds]
    low = nonnegative(where) or any(nonnegative(where - b.value + b.low) for b in bounds)
    high = nonnegative(index(extent) - 1 - where) or any(
        nonnegative(index(extent) - b.high - (where - b.value)) for b in bounds
    )
    return low and high


def _tried(where: Index, extent: IndexLike, context: Context) -> bool:
    """Whether it stays inside at every point of a small space of fixed size, by trying them all."""
    involved = [where, index(extent), *(i for g, _ in context for b in g.bounds for i in (b.low, b.value, b.high))]
    atoms = dict.fromkeys(a for i in involved for a in walk_atoms(i))
    iters = [a for a in atoms if isinstance(a, Iter)]
    if any(isinstance(a, (Symbol, Lookup)) for a in atoms) or not all(isinstance(i.extent, int) for i in iters):
        return False
    count = 1
    for one in iters:
        count *= int(one.extent)  # type: ignore[arg-type]
        if count > MOST_POINTS:
            return False
    for values in product(*(range(int(i.extent)) for i in iters)):  # type: ignore[arg-type]
        point = dict(zip((i.name for i in iters), values, strict=True))
        if all(_holds(g, point) is wanted for g, wanted in context):
            here = _at(where, point)
            if not 0 <= here < _at(index(extent), point):
                return False
    return True


def _holds(guard: Guard, point: dict[str, int]) -> bool:
    return all(_at(b.low, point) <= _at(b.value, point) < _at(b.high, point) for b in guard.bounds)


def _at(value: Index, point: dict[str, int]) -> int:
    return evaluate(value, point)
