"""Loops that are read through ``(i + c) // d`` and ``(i + c) % d``, cut into a quotient and a remainder.

A transposed convolution reads ``x[i//2 - t]`` and ``w[2*t + i%2]``: over ``i = 2*a + b`` these are affine, so that they
are views and one matrix product instead of gathers. What is not a whole period at either end is a stage of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tpopt.ir.index import Atom, FloorDiv, Index, IndexLike, Iter, Mod, index, walk_atoms
from tpopt.ir.interpret.affine import Range, Symbols, affine, line, number
from tpopt.ir.interpret.terms import StageTerms, iters_of
from tpopt.ir.stages import Compute
from tpopt.ir.terms import Read, Tensor
from tpopt.ir.walk import own_indices, substitute_iters

_POINTS = 1 << 16  # below it a gather costs less than the analysis


@dataclass(frozen=True)
class Part:
    """A stage over parts of the loops: ``ranges`` of the original ones; its own loops, merged, have those extents."""

    ranges: tuple[Range, ...]
    stage: Compute


def split_loops(stage: Compute, terms: StageTerms, symbols: Symbols) -> list[Part]:
    """The stage in parts without such quotients, or ``[]`` where that gains nothing."""
    mixed = [t for t in terms.postorder if isinstance(t, Read) and any(_mixed(i, symbols) for i in t.indices)]
    if not mixed or max(_points(terms.free(t), symbols) for t in mixed) < _POINTS:
        return []
    wanted = dict.fromkeys(i for t in mixed for a in _quotients(t.indices) for i in iters_of((a.numerator,)))
    found = {i: _period(i, terms, symbols) for i in stage.loops if i in wanted}
    periods = {i: p for i, p in found.items() if p is not None}
    if not periods:
        return []
    cuts = [list(_cuts(i, periods.get(i), symbols)) for i in stage.loops]
    return [_part(stage, chosen) for chosen in product(*cuts)]


def _mixed(where: Index, symbols: Symbols) -> bool:
    return affine(where, symbols) is None and line(where, symbols) is None


def _points(iters: Sequence[Iter], symbols: Symbols) -> int:
    count = 1
    for i in iters:
        count *= number(i.extent, symbols)
    return count


def _quotients(indices: Sequence[Index]) -> list[FloorDiv | Mod]:
    return [a for i in indices for a in walk_atoms(i) if isinstance(a, (FloorDiv, Mod))]


def _period(loop: Iter, terms: StageTerms, symbols: Symbols) -> tuple[int, int] | None:
    """``(d, c mod d)`` when ``loop`` is divided as ``loop + c`` by one constant ``d`` only."""
    found: dict[tuple[int, int], None] = {}
    for atom in dict.fromkeys(a for t in terms.postorder for a in _quotients(own_indices(t))):
        if loop not in iters_of((atom.numerator,)):
            continue
        form, divisor = affine(atom.numerator, symbols), affine(atom.denominator, symbols)
        if form is None or divisor is None or divisor.terms or form.terms != ((loop, 1),):
            return None
        found[divisor.offset, form.offset % divisor.offset] = None
    return next(iter(found)) if len(found) == 1 else None


@dataclass(frozen=True)
class _Cut:
    """``range`` of a loop, which is ``value`` over ``iters``."""

    range: Range
    iters: tuple[Iter, ...]
    value: IndexLike


def _cuts(loop: Iter, period: tuple[int, int] | None, symbols: Symbols) -> Iterator[_Cut]:
    extent = number(loop.extent, symbols)
    if period is None:
        yield _whole(loop, 0, extent)
        return
    d, c = period
    start = min(-c % d, extent)
    end = start + (extent - start) // d * d
    if start:
        yield _whole(loop, 0, start)
    if end > start:
        outer, inner = Iter(f"{loop.name}_quotient", (end - start) // d), Iter(f"{loop.name}_remainder", d)
        yield _Cut((start, end), (outer, inner), d * outer + inner + start)
    if extent > end:
        yield _whole(loop, end, extent)


def _whole(loop: Iter, start: int, end: int) -> _Cut:
    part = Iter(loop.name, end - start)
    return _Cut((start, end), (part,), part + start)


def _part(stage: Compute, cuts: Sequence[_Cut]) -> Part:
    mapping: dict[Atom, IndexLike] = {loop: index(cut.value) for loop, cut in zip(stage.loops, cuts, strict=True)}
    loops = tuple(i for cut in cuts for i in cut.iters)
    bodies = tuple(substitute_iters(b, mapping) for b in stage.bodies)
    outs = tuple(Tensor(t.name, tuple(i.extent for i in loops), t.dtype) for t in stage.outs)
    return Part(tuple(cut.range for cut in cuts), Compute(outs, loops, bodies))
