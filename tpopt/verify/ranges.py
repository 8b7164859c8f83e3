"""Which values an input may hold so that every index looked up from it is within its promised bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tpopt.ir.bounds import interval
from tpopt.ir.index import Index, Lookup, evaluate, walk_atoms
from tpopt.ir.program import Program
from tpopt.ir.stages import Compute, Cond, Kernel, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Apply, Cast, Const, Position, Read, Reduce, Scalar, Select, Tensor
from tpopt.ir.walk import guard_indices, own_indices, postorder

Range = tuple[int, int]
"""Half-open."""


class Ranges:
    """Half-open ranges of tensors by name; what contradicts an earlier demand is dropped."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.found: dict[str, Range] = {}

    def demand(self, tensor: Tensor, low: int, high: int) -> None:
        """The values of ``tensor`` are in ``[low, high)``."""
        first, last = self.found.get(tensor.name, (low, high))
        narrowed = max(first, low), min(last, high)
        if narrowed[0] < narrowed[1]:
            self.found[tensor.name] = narrowed

    def number(self, where: Index) -> int | None:
        """The value of a bound, if the symbols tell it."""
        try:
            return evaluate(where, self.sizes)
        except KeyError:
            return None


def input_ranges(program: Program, sizes: Mapping[str, int]) -> dict[str, Range]:
    """Ranges of the inputs that are used as indices, directly or through views and simple arithmetic."""
    names = {t.name for t in program.inputs}
    found = _demands(program, {}, sizes)
    return {name: span for name, span in found.items() if name in names}


def _demands(program: Program, outputs: Mapping[str, Range], sizes: Mapping[str, int]) -> dict[str, Range]:
    ranges = Ranges(sizes)
    ranges.found.update(outputs)
    for stage in reversed(program.stages):
        _stage(stage, ranges)
    return ranges.found


def _stage(stage: Stage, ranges: Ranges) -> None:
    match stage:
        case Compute():
            for out, body in zip(stage.outs, stage.bodies, strict=True):
                _through(body, ranges.found.get(out.name), ranges)
            _lookups(stage.bodies, (), ranges)
        case Scatter():
            span = ranges.found.get(stage.out.name)
            if span is not None:
                ranges.demand(stage.base, *span)
            _through(stage.value, span, ranges)
            guards = guard_indices(stage.guard) if stage.guard else ()
            _lookups((stage.value,), (*stage.at, *guards), ranges)
        case Sort() | TopK():
            if stage.values.name in ranges.found:
                ranges.demand(stage.source, *ranges.found[stage.values.name])
        case Kernel():
            for part in reversed(stage.defines):
                _stage(part, ranges)
        case Scan():
            _nested(stage.body, stage.outs, (*stage.init, *stage.xs, *stage.captures), ranges)
        case Cond():
            _nested(stage.then, stage.outs, stage.captures, ranges)
            _nested(stage.otherwise, stage.outs, stage.captures, ranges)
        case _:
            return


def _nested(body: Program, outs: Sequence[Tensor], given: Sequence[Tensor], ranges: Ranges) -> None:
    """Carries demands through the body of a scan or a branch."""
    pairs = zip(body.outputs, outs, strict=True)
    outputs = {inner.name: ranges.found[outer.name] for inner, outer in pairs if outer.name in ranges.found}
    found = _demands(body, outputs, ranges.sizes)
    for inner, outer in zip(body.inputs, given, strict=True):
        if inner.name in found:
            ranges.demand(outer, *found[inner.name])


def _lookups(terms: Iterable[Scalar], indices: Iterable[Index], ranges: Ranges) -> None:
    every = [*indices, *(i for t in postorder(*terms) for i in own_indices(t))]
    for where in every:
        for atom in walk_atoms(where):
            if isinstance(atom, Lookup):
                low, high = ranges.number(atom.low), ranges.number(atom.high)
                if low is not None and high is not None:
                    ranges.demand(atom.tensor, low, high)


def _through(root: Scalar, span: Range | None, ranges: Ranges) -> None:
    """What a range of a term demands of the tensors it reads; arithmetic it cannot undo ends the search."""
    pending = [] if span is None else [(root, *span)]
    while pending:
        term, low, high = pending.pop()
        match term:
            case Read():
                ranges.demand(term.tensor, low, high)
            case Cast():
                pending.append((term.value, low, high))
            case Select():
                pending += [(term.inside, low, high), (term.outside, low, high)]
            case Reduce(monoid, _, bodies, 0) if monoid in ("max", "min", "argmax", "argmin"):
                pending.append((bodies[0], low, high))
            case Apply("where", (_, yes, no)):
                pending += [(yes, low, high), (no, low, high)]
            case Apply("max" | "min", args):
                pending += [(a, low, high) for a in args]
            case Apply(name, (left, right)):
                pending += _undone(name, left, right, low, high)
            case _:
                continue


def _undone(name: str, left: Scalar, right: Scalar, low: int, high: int) -> list[tuple[Scalar, int, int]]:
    """``left op right`` in ``[low, high)`` as a demand on the operand that is not known."""
    known, other = _values(right), left
    if known is None and name in ("add", "mul"):
        known, other = _values(left), right
    if known is None:
        return []
    least, most = known
    if name == "add":
        return [(other, low - least, high - most)]
    if name == "sub":
        return [(other, low + most, high + least)]
    if name == "mul" and least == most > 0:
        return [(other, -(-low // least), (high - 1) // least + 1)]
    if name == "floordiv" and least == most > 0:
        return [(other, low * least, high * least)]
    return []


def _values(term: Scalar) -> tuple[int, int] | None:
    """The least and the greatest value of a literal or of an index."""
    while isinstance(term, Cast):
        term = term.value
    if isinstance(term, Const) and isinstance(term.value, int):
        return term.value, term.value
    if isinstance(term, Position):
        least, most = interval(term.value)
        return (least, most) if least is not None and most is not None else None
    return None
