"""Stages evaluated point by point in Python: slow, obvious, and related to no other evaluator."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpopt.ir import (
    Apply,
    Bound,
    Cast,
    Compute,
    Const,
    FloorDiv,
    Index,
    Iter,
    Lookup,
    Mod,
    Position,
    Read,
    Reduce,
    Scatter,
    Select,
)

PLAIN = {
    "sum": (0.0, lambda a, b: a + b),
    "prod": (1.0, lambda a, b: a * b),
    "max": (-math.inf, max),
    "min": (math.inf, min),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "max": max,
    "min": min,
    "lt": lambda a, b: a < b,
}
UNARY = {"neg": lambda a: -a, "exp": math.exp, "tanh": math.tanh, "abs": abs}
Arrays = Mapping[str, Any]


def brute(stage: Compute | Scatter, arrays: Arrays) -> list[Any]:
    """The outputs of a stage with plain integer extents, as float64 or int64 arrays."""
    extents = [i.extent for i in stage.loops]
    points = [dict(zip(stage.loops, p, strict=True)) for p in itertools.product(*(range(int(e)) for e in extents))]
    if isinstance(stage, Scatter):
        out = arrays[stage.base.name].copy()
        for at in points:
            if stage.guard is None or all(holds(b, at, arrays) for b in stage.guard.bounds):
                where = tuple(place(i, at, arrays) for i in stage.at)
                value = scalar(stage.value, at, arrays)
                out[where] = value if stage.op == "set" else BINARY[stage.op](out[where], value)
        return [out]
    outs = []
    for tensor, body in zip(stage.outs, stage.bodies, strict=True):
        dtype = np.float64 if tensor.dtype.is_float else np.complex128 if tensor.dtype.is_complex else np.int64
        values = [scalar(body, at, arrays) for at in points]
        outs.append(np.array(values, dtype=dtype).reshape([int(e) for e in extents]))
    return outs


def place(where: Index, at: Mapping[Iter, int], arrays: Arrays) -> int:
    total = 0
    for coefficient, atoms in where.terms:
        total += coefficient * math.prod(atom_value(a, at, arrays) for a in atoms)
    return total


def atom_value(atom: Any, at: Mapping[Iter, int], arrays: Arrays) -> int:
    match atom:
        case Iter():
            return at[atom]
        case FloorDiv():
            return place(atom.numerator, at, arrays) // place(atom.denominator, at, arrays)
        case Mod():
            return place(atom.numerator, at, arrays) % place(atom.denominator, at, arrays)
        case Lookup():
            return int(arrays[atom.tensor.name][tuple(place(i, at, arrays) for i in atom.indices)])
    raise AssertionError(atom)


def holds(bound: Bound, at: Mapping[Iter, int], arrays: Arrays) -> bool:
    return place(bound.low, at, arrays) <= place(bound.value, at, arrays) < place(bound.high, at, arrays)


def scalar(term: Any, at: Mapping[Iter, int], arrays: Arrays) -> Any:
    match term:
        case Const():
            return term.value
        case Read():
            where = tuple(place(i, at, arrays) for i in term.indices)
            assert all(0 <= p < n for p, n in zip(where, arrays[term.tensor.name].shape, strict=True)), (term, where)
            return arrays[term.tensor.name][where]
        case Position():
            return place(term.value, at, arrays)
        case Cast():
            value = scalar(term.value, at, arrays)
            return int(value) if term.dtype.is_integer else value
        case Select():
            inside = all(holds(b, at, arrays) for b in term.guard.bounds)
            return scalar(term.inside if inside else term.outside, at, arrays)
        case Apply("where", (condition, yes, no)):
            return scalar(yes if scalar(condition, at, arrays) else no, at, arrays)
        case Apply():
            values = [scalar(a, at, arrays) for a in term.args]
            if len(values) == 1:
                return UNARY[term.function](values[0])
            total = values[0]
            for value in values[1:]:
                total = BINARY[term.function](total, value)
            return total
        case Reduce():
            return reduction(term, at, arrays)
    raise AssertionError(term)


def reduction(term: Reduce, at: Mapping[Iter, int], arrays: Arrays) -> Any:
    rows = []
    for point in itertools.product(*(range(int(i.extent)) for i in term.iters)):
        inner = {**at, **dict(zip(term.iters, point, strict=True))}
        rows.append([scalar(b, inner, arrays) for b in term.bodies])
    if term.monoid in PLAIN:
        total, run = PLAIN[term.monoid]
        for (value,) in rows:
            total = run(total, value)
        return total
    if term.monoid in ("argmax", "argmin"):
        sign = 1 if term.monoid == "argmax" else -1
        return max(rows, key=lambda r: (math.isnan(r[0]), 0 if math.isnan(r[0]) else sign * r[0], -r[1]))[term.pick]
    if term.monoid == "welford":
        mean = m2 = count = 0.0
        for m, s, n in rows:
            delta, total = m - mean, count + n
            mean, m2, count = mean + delta * n / total, m2 + s + delta * delta * count * n / total, total
        return (mean, m2, count)[term.pick]
    top = max(r[0] for r in rows)
    return (top, sum(s * math.exp(m - top) for m, s in rows))[term.pick]
