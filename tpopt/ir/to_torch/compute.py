"""Compute stages: cut where branches concern parts of an axis, chunked where they would take too much memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from tpopt.ir.index import Atom, IndexLike, Iter
from tpopt.ir.stages import Compute
from tpopt.ir.terms import Const, Guard, Scalar, Select
from tpopt.ir.to_torch.digits import split_iterators
from tpopt.ir.to_torch.indexing import affine
from tpopt.ir.to_torch.lowering import Lowering
from tpopt.ir.to_torch.scalar import evaluate
from tpopt.ir.to_torch.setting import Setting, replace_atoms, specialise
from tpopt.ir.to_torch.tape import Plan, Tape

MOST_ELEMENTS = 1 << 25
"""Arrays larger than this, when no result needs them, are computed in chunks (256 MiB of doubles)."""
_LARGER = 4


def lower_compute(stage: Compute, setting: Setting, most: int = MOST_ELEMENTS) -> Plan:
    """The plan of a stage; its outputs have the stage's full shape."""
    found = specialise(stage, setting)
    shape = tuple(setting.size(i.extent) for i in found.loops)
    if 0 in shape:
        return _nothing(stage, setting, shape)
    found = split_iterators(found)
    tape = Tape()
    low = Lowering(tape, setting, found.loops)
    outs = _write(tape, low, setting, found.loops, found.values)
    if low.largest > most and low.largest > _LARGER * prod(shape):
        tape = Tape()
        outs = _chunked(tape, found.loops, found.values, setting, -(-low.largest // most))
    if len(found.loops) != len(shape):
        outs = [tape.emit(lambda t: t.reshape(shape), o) for o in outs]
    return tape.finish(outs)


def _nothing(stage: Compute, setting: Setting, extents: tuple[int, ...]) -> Plan:
    tape = Tape()
    dtypes = [setting.torch_dtype(o.dtype) for o in stage.outs]
    return tape.finish([tape.constant(torch.empty(extents, dtype=d, device=setting.device)) for d in dtypes])


def _write(
    tape: Tape, low: Lowering, setting: Setting, loops: tuple[Iter, ...], bodies: tuple[Scalar, ...]
) -> list[int]:
    if len(bodies) == 1:
        cut = pieces(loops, bodies[0])
        if cut is not None:
            return [_concatenated(tape, low, setting, loops, *cut)]
    return [low.full(v, loops).slot for v in evaluate(low, bodies)]


def _concatenated(
    tape: Tape,
    low: Lowering,
    setting: Setting,
    loops: tuple[Iter, ...],
    axis: int,
    parts: Sequence[tuple[int, int, Scalar]],
) -> int:
    slots = []
    for start, stop, term in parts:
        new, moved = _restrict(loops, axis, start, stop, (term,))
        part = Lowering(tape, setting, new)
        slots.append(part.full(evaluate(part, moved)[0], new).slot)
        low.note(part.largest)
    return tape.emit(lambda *ts: torch.cat(ts, axis), *slots)


def _restrict(
    loops: tuple[Iter, ...], axis: int, start: int, stop: int, terms: Sequence[Scalar]
) -> tuple[tuple[Iter, ...], tuple[Scalar, ...]]:
    """The terms for ``start <= loops[axis] < stop`` alone, over an iterator of their own."""
    old = loops[axis]
    new = Iter(f"{old.name}+{start}", stop - start)
    mapping: dict[Atom, IndexLike] = {old: start if new.extent == 1 else new + start}
    return (*loops[:axis], new, *loops[axis + 1 :]), tuple(replace_atoms(t, mapping) for t in terms)


def pieces(loops: tuple[Iter, ...], body: Scalar) -> tuple[int, list[tuple[int, int, Scalar]]] | None:
    """Splits ``select(p <= i < q, a, select(…))`` into ranges of the loop ``i``, a term each: a concatenation."""
    axis: int | None = None
    done: list[tuple[int, int, Scalar]] = []
    extents = [i.extent for i in loops]
    found = _interval(loops, body)
    if found is None:
        return None
    axis = found[0]
    extent = extents[axis]
    assert isinstance(extent, int)
    work = [(0, extent, body)]
    while work:
        start, stop, term = work.pop()
        found = _interval(loops, term)
        if found is None or found[0] != axis or not isinstance(term, Select):
            done.append((start, stop, term))
            continue
        p, q = max(start, min(found[1], stop)), max(start, min(found[2], stop))
        parts = [(start, p, term.outside), (p, q, term.inside), (q, stop, term.outside)]
        work.extend(reversed([part for part in parts if part[0] < part[1]]))
    return (axis, done) if len(done) > 1 else None


def _interval(loops: tuple[Iter, ...], term: Scalar) -> tuple[int, int, int] | None:
    """``(axis, p, q)`` where a Select's guard says ``p <= loops[axis] < q`` and both branches read something."""
    if not isinstance(term, Select) or isinstance(term.inside, Const) or isinstance(term.outside, Const):
        return None
    spans = [_span(loops, term.guard, n) for n in range(len(term.guard.bounds))]
    if not spans or any(s is None for s in spans):
        return None
    known = [s for s in spans if s is not None]
    if any(s[0] != known[0][0] for s in known):
        return None
    first, last = max(s[1] for s in known), min(s[2] for s in known)
    return known[0][0], first, max(first, last)


def _span(loops: tuple[Iter, ...], guard: Guard, number: int) -> tuple[int, int, int] | None:
    bound = guard.bounds[number]
    low, high, value = bound.low.constant, bound.high.constant, affine(bound.value)
    if low is None or high is None or value is None or len(value.coefficients) != 1:
        return None
    it, c = value.coefficients[0]
    if it not in loops:
        return None
    low, high = low - value.offset, high - value.offset
    if c > 0:
        return loops.index(it), -(-low // c), -(-high // c)
    return loops.index(it), (-high) // -c + 1, (-low) // -c + 1


def _chunked(
    tape: Tape, loops: tuple[Iter, ...], bodies: tuple[Scalar, ...], setting: Setting, count: int
) -> list[int]:
    """Computes blocks of the longest loop one after the other."""
    axis = max(range(len(loops)), key=lambda n: setting.size(loops[n].extent), default=None)
    if axis is None:
        return _write(tape, Lowering(tape, setting, loops), setting, loops, bodies)
    extent = setting.size(loops[axis].extent)
    step = max(1, extent // count)
    rows: list[list[int]] = []
    for start in range(0, extent, step):
        new, terms = _restrict(loops, axis, start, min(start + step, extent), bodies)
        low = Lowering(tape, setting, new)
        rows.append([low.full(v, new).slot for v in evaluate(low, terms)])
    columns = zip(*rows, strict=True)
    return [tape.emit(lambda *ts: torch.cat(ts, axis), *slots) for slots in columns]
