"""Compute stages: their reductions, then their bodies in cache-sized pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import numpy as np

from tpopt.ir.index import Iter
from tpopt.ir.interpret.affine import Range, affine, number
from tpopt.ir.interpret.digits import split_loops
from tpopt.ir.interpret.pointwise import Pointwise, Scope
from tpopt.ir.interpret.reductions import run_reductions
from tpopt.ir.interpret.space import Box, cut, pieces, points
from tpopt.ir.interpret.state import State
from tpopt.ir.interpret.terms import StageTerms
from tpopt.ir.program import Array
from tpopt.ir.stages import Compute
from tpopt.ir.terms import Read, Reduce, Scalar, Select

_PIECE = 1 << 18  # points evaluated at once: 2 MB for each term, in cache
_RESULTS = 1 << 26  # elements of reduction results held at once: 512 MB
_REGIONS = 256  # regions that guards on single loops may cut a stage into


def run_compute(state: State, stage: Compute) -> tuple[Array, ...]:
    """The stage's outputs."""
    terms = state.terms(stage)
    parts = split_loops(stage, terms, state.symbols)
    if not parts:
        return _run(state, stage, terms)
    shape = [number(i.extent, state.symbols) for i in stage.loops]
    outs = tuple(np.zeros(shape, state.arithmetic.storage(t.dtype)) for t in stage.outs)
    for part in parts:
        own = StageTerms(terms.name, part.stage.loops, part.stage.bodies)
        for out, value in zip(outs, _run(state, part.stage, own), strict=True):
            target = out[tuple(slice(*r) for r in part.ranges)]
            target[...] = value.reshape(target.shape)
    return outs


def _run(state: State, stage: Compute, terms: StageTerms) -> tuple[Array, ...]:
    box: Box = {i: (0, number(i.extent, state.symbols)) for i in terms.iters}
    shape = [points(box, (i,)) for i in stage.loops]
    held = sum(points(box, terms.free(t)) for t in terms.postorder if isinstance(t, Reduce))
    total = points(box, stage.loops)
    parts = list(pieces(box, stage.loops, max(1, total * _RESULTS // max(held, _RESULTS))))
    if len(parts) == 1:
        return tuple(np.broadcast_to(v, shape) for v in _part(state, stage, terms, box, None))
    outs = [np.zeros(shape, state.arithmetic.storage(t.dtype)) for t in stage.outs]
    carried: Scope | None = None
    for part in parts:
        scope = state.scope(terms, part)
        if carried is not None:
            scope.results.update({t: r for t, r in carried.results.items() if all(part[i] == box[i] for i in r.axes)})
        carried = scope
        for out, value in zip(outs, _part(state, stage, terms, part, scope), strict=True):
            cut(out, stage.loops, box, part)[...] = value
    return tuple(outs)


def _part(state: State, stage: Compute, terms: StageTerms, box: Box, scope: Scope | None) -> Sequence[Array]:
    """Bodies over a part of the loops; arrays may have extent 1 where nothing varies."""
    scope = scope or state.scope(terms, box)
    run_reductions(scope, stage.bodies)
    pointwise = Pointwise(scope, stage.loops, box)
    if all(isinstance(b, (Read, Reduce)) for b in stage.bodies) or points(box, stage.loops) <= _PIECE // 4:
        return pointwise.evaluate(stage.bodies, box)
    parts = [p for region in _regions(scope, stage, box) for p in pieces(region, stage.loops, _PIECE)]
    if len(parts) == 1:
        return pointwise.evaluate(stage.bodies, box)
    shape = [points(box, (i,)) for i in stage.loops]
    outs = [np.zeros(shape, state.arithmetic.storage(t.dtype)) for t in stage.outs]
    for part in parts:
        for out, value in zip(outs, pointwise.evaluate(stage.bodies, part), strict=True):
            cut(out, stage.loops, box, part)[...] = value
    return outs


def _regions(scope: Scope, stage: Compute, box: Box) -> Iterator[Box]:
    """The box cut where guards on a single loop change, so that each region evaluates one branch of a concatenation."""
    edges: dict[Iter, dict[int, None]] = {i: dict.fromkeys(box[i]) for i in stage.loops}
    for term in scope.terms.postorder:
        for half in scope.halves(term.guard) if isinstance(term, Select) and scope.padded(term) is None else ():
            form = affine(half, scope.symbols)
            if form is None or len(form.terms) != 1 or form.terms[0][0] not in edges:
                continue
            loop, slope = form.terms[0]  # changes sign between -offset/slope rounded down and up
            edge = -(form.offset // slope) if slope > 0 else form.offset // -slope + 1
            if box[loop][0] < edge < box[loop][1]:
                edges[loop][edge] = None
    count = 1
    ranges: list[list[Range]] = []
    for loop in stage.loops:
        count *= max(1, len(edges[loop]) - 1)
        ranges.append(
            list(pairwise(sorted(edges[loop]))) if count <= _REGIONS and len(edges[loop]) > 1 else [box[loop]]
        )
    for chosen in product(*ranges):
        yield {**box, **dict(zip(stage.loops, chosen, strict=True))}


def run_terms(scope: Scope, loops: Sequence[Iter], roots: Sequence[Scalar]) -> list[Array]:
    """Terms over the whole box of a scope, at full extent."""
    run_reductions(scope, roots)
    shape = [points(scope.box, (i,)) for i in loops]
    return [np.broadcast_to(v, shape) for v in Pointwise(scope, loops, scope.box).evaluate(roots, scope.box)]
