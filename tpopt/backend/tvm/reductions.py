"""The monoids of reductions on vectors: identities, merging two partial results, folding the lanes of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm import tirx

from tpopt.backend.tvm.code import Expr, differ, halves, lanes_of, literal
from tpopt.backend.tvm.elements import COMPUTED, Value, choose, computed
from tpopt.backend.tvm.functions import apply
from tpopt.ir import DType

Bind: TypeAlias = Callable[[Expr], Expr]
Parts: TypeAlias = "tuple[Value, ...]"

_FARTHEST = {"int64": 2**63 - 1, "int32": 2**31 - 1, "int16": 2**15 - 1, "int8": 127, "uint8": 255}


def identity(monoid: str, dtypes: tuple[DType, ...], lanes: int) -> Parts:
    """What merging leaves as it was, for each component."""
    first = dtypes[0]
    kind = COMPUTED[first]
    if monoid in ("sum", "prod"):
        one = literal(1 if monoid == "prod" else 0, kind, lanes)
        return ((one, literal(0, kind, lanes)),) if first.is_complex else (one,)
    if monoid in ("any", "all"):
        return (literal(monoid == "all", "bool", lanes),)
    if monoid in ("max", "min"):
        return (_extreme(first, largest=monoid == "min", lanes=lanes),)
    if monoid in ("argmax", "argmin"):
        return _extreme(first, largest=monoid == "argmin", lanes=lanes), literal(
            _FARTHEST[COMPUTED[dtypes[1]]], COMPUTED[dtypes[1]], lanes
        )
    if monoid == "welford":
        return tuple(literal(0.0, COMPUTED[d], lanes) for d in dtypes)
    return _extreme(first, largest=False, lanes=lanes), literal(0.0, COMPUTED[dtypes[1]], lanes)


def _extreme(dtype: DType, *, largest: bool, lanes: int) -> Expr:
    if dtype is DType.BOOL:
        return literal(largest, "bool", lanes)
    if dtype.is_float:
        return literal(float("inf") if largest else float("-inf"), COMPUTED[dtype], lanes)
    kind = COMPUTED[dtype]
    top = _FARTHEST[kind]
    return literal(top if largest else (0 if kind == "uint8" else -top - 1), kind, lanes)


def merge(monoid: str, a: Parts, b: Parts, dtypes: tuple[DType, ...], bind: Bind) -> Parts:
    """Two partial results as one; ``a`` comes first."""
    kinds = tuple(computed(d) for d in dtypes)
    plain = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}
    if monoid in plain:
        return (apply(plain[monoid], [a[0], b[0]], kinds[0], bind),)
    a, b = tuple(bind(x) for x in a), tuple(bind(x) for x in b)
    return _PAIRS[monoid](a, b, kinds, bind)


def _arg(a: Parts, b: Parts, kinds: tuple[DType, ...], largest: bool, bind: Bind) -> Parts:
    """NaN wins, then the extreme, then the smaller position."""
    better = tirx.GT(b[0], a[0]) if largest else tirx.LT(b[0], a[0])
    same = tirx.EQ(a[0], b[0])
    if kinds[0].is_float:
        nan_a, nan_b = differ(a[0], a[0]), differ(b[0], b[0])
        better = tirx.Or(tirx.And(better, tirx.Not(nan_a)), tirx.And(nan_b, tirx.Not(nan_a)))
        same = tirx.Or(same, tirx.And(nan_a, nan_b))
    take = bind(tirx.Or(better, tirx.And(same, tirx.LT(b[1], a[1]))))
    return choose(take, b[0], a[0]), choose(take, b[1], a[1])


def _welford(a: Parts, b: Parts, kinds: tuple[DType, ...], bind: Bind) -> Parts:
    """Chan, Golub, LeVeque: updating formulae for variances."""
    lanes = lanes_of(a[0])
    zero, one = literal(0.0, COMPUTED[kinds[0]], lanes), literal(1.0, COMPUTED[kinds[0]], lanes)
    count = bind(a[2] + b[2])
    share = bind(b[2] / tirx.Select(tirx.EQ(count, zero), one, count))
    delta = bind(b[0] - a[0])
    mean = a[0] + delta * share
    spread = a[1] + b[1] + tirx.Select(tirx.EQ(a[2] * b[2], zero), zero, delta * delta * a[2] * share)
    return tirx.Select(tirx.EQ(a[2], zero), b[0], mean), spread, count


def _logsumexp(a: Parts, b: Parts, kinds: tuple[DType, ...], bind: Bind) -> Parts:
    """Both sums on the scale of the larger exponent; terms at the maximum are not rescaled."""
    one = literal(1.0, COMPUTED[kinds[0]], lanes_of(a[0]))
    top = bind(apply("max", [a[0], b[0]], kinds[0], bind))
    scaled = []
    for exponent, scale in (a, b):
        factor = apply("exp", [bind(exponent - top)], kinds[0], bind)
        scaled.append(scale * tirx.Select(tirx.EQ(exponent, top), one, factor))
    return top, scaled[0] + scaled[1]


_PAIRS: dict[str, Callable[[Parts, Parts, tuple[DType, ...], Bind], Parts]] = {
    "argmax": lambda a, b, kinds, bind: _arg(a, b, kinds, True, bind),
    "argmin": lambda a, b, kinds, bind: _arg(a, b, kinds, False, bind),
    "welford": _welford,
    "logsumexp": _logsumexp,
}


def across_lanes(monoid: str, parts: Parts, dtypes: tuple[DType, ...], bind: Bind) -> Parts:
    """The lanes of a partial result as one, by halves."""
    while _width(parts) > 1:
        named = tuple(_named(p, bind) for p in parts)
        pairs = [_halves(p) for p in named]
        parts = merge(monoid, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), dtypes, bind)
    return parts


def _width(parts: Parts) -> int:
    first = parts[0]
    return lanes_of(first[0]) if isinstance(first, tuple) else lanes_of(first)


def _named(part: Value, bind: Bind) -> Value:
    return tuple(bind(p) for p in part) if isinstance(part, tuple) else bind(part)


def _halves(part: Value) -> tuple[Value, Value]:
    if isinstance(part, tuple):
        pairs = [halves(p) for p in part]
        return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    return halves(part)
