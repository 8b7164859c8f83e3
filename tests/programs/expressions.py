"""Random pointwise terms, each with its torch reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from programs.maker import Env, Maker, Value, aligned, torch_type
from tpopt.ir import DType, Iter, Scalar, apply, cast, const, guard, index, position, select, where
from tpopt.ir.index import evaluate

Torch = Callable[[Env], torch.Tensor]


@dataclass(frozen=True)
class Expr:
    """A term over given loops, its torch reference (broadcastable to them), and what is known of its values."""

    term: Scalar
    run: Torch
    low: float
    high: float
    exact: bool

    @property
    def dtype(self) -> DType:
        return self.term.dtype

    @property
    def bound(self) -> float:
        return max(abs(self.low), abs(self.high))


def read(m: Maker, value: Value, loops: Sequence[Iter]) -> Expr | None:
    """A value read along the loops, if it fits."""
    found = aligned(m, value, loops)
    if found is None:
        return None
    where_, view = found
    name = value.tensor.name
    return Expr(value.tensor.at(where_), lambda e: e[name].reshape(view), value.low, value.high, value.exact)


def literal(m: Maker, dtype: DType) -> Expr:
    """A literal."""
    number = m.random.choice((0.5, -1.25, 2.0, 0.75, -0.5)) if dtype.is_float else m.random.choice((-2, 1, 2, 3, 5))
    if dtype.is_complex:
        number = complex(m.random.choice((0.5, -1.0)), m.random.choice((0.0, 1.5)))
    if dtype is DType.U8:
        number = abs(number)
    made = const(number, dtype)
    size_ = abs(number) if dtype.is_complex else number
    return Expr(made, lambda e: torch.tensor(number, dtype=torch_type(dtype)), min(size_, 0), max(size_, 0), exact=True)


def where_we_are(m: Maker, loops: Sequence[Iter], dtype: DType) -> Expr:
    """An index of the loops as a number."""
    chosen = m.random.sample(range(len(loops)), min(len(loops), 2))
    at = sum((m.random.choice((1, 2)) * loops[n] for n in chosen), start=index(m.random.choice((0, 1))))
    if m.random.random() < 0.3:
        at = at % 3
    dims = m.dims([i.extent for i in loops])

    def run(env: Env) -> torch.Tensor:
        grids = torch.meshgrid(*(torch.arange(d) for d in dims), indexing="ij") if dims else ()
        flat = [
            dict(zip((i.name for i in loops), map(int, p), strict=True))
            for p in zip(*map(torch.ravel, grids), strict=True)
        ]
        values = [evaluate(at, {**{s.name: v for s, v in m.symbols.items()}, **p}) for p in (flat if dims else [{}])]
        return torch.tensor(values, dtype=torch_type(dtype)).reshape(dims)

    return Expr(position(at, dtype), run, 0, 4 * max([*dims, 1]) + 1, exact=True)


def unary(
    a: Expr, name: str, run: Callable[[torch.Tensor], torch.Tensor], low: float, high: float, *, exact: bool = False
) -> Expr:
    """A function of one argument."""
    inner = a.run
    return Expr(apply(name, a.term), lambda e: run(inner(e)), low, high, exact=exact and a.exact)


def binary(
    a: Expr, b: Expr, name: str, run: Callable[..., torch.Tensor], low: float, high: float, *, exact: bool = False
) -> Expr:
    """A function of two arguments."""
    left, right = a.run, b.run
    made = apply(name, a.term, b.term)
    return Expr(made, lambda e: run(left(e), right(e)), low, high, exact=exact and a.exact and b.exact)


def plus(a: Expr, number: float) -> Expr:
    """``a + number``."""
    inner = a.run
    return Expr(apply("add", a.term, number), lambda e: inner(e) + number, a.low + number, a.high + number, exact=False)


def times(a: Expr, number: float) -> Expr:
    """``a * number``."""
    inner = a.run
    low, high = sorted((a.low * number, a.high * number))
    return Expr(apply("mul", a.term, number), lambda e: inner(e) * number, low, high, exact=False)


def tame(a: Expr) -> Expr:
    """Within [-1, 1]."""
    return unary(a, "tanh", torch.tanh, -1, 1)


def size_of(a: Expr) -> Expr:
    """``abs(a)``."""
    return unary(a, "abs", torch.abs, 0, a.bound, exact=True)


def float_unary(m: Maker, a: Expr) -> Expr:
    """A smooth function, its argument brought into its domain."""
    if a.bound > 60:
        a = tame(a)
    small, positive = tame(a), plus(size_of(a), 0.5)
    b, top = a.bound, a.bound + 0.5
    choices: list[Callable[[], Expr]] = [
        lambda: unary(a, "neg", torch.neg, -a.high, -a.low, exact=True),
        lambda: size_of(a),
        lambda: unary(small, "exp", torch.exp, 0.3, 2.8),
        lambda: unary(small, "exp2", torch.exp2, 0.5, 2),
        lambda: unary(small, "expm1", torch.expm1, -0.7, 1.8),
        lambda: unary(positive, "log", torch.log, -0.7, top),
        lambda: unary(positive, "log2", torch.log2, -1, 2 * top),
        lambda: unary(positive, "log10", torch.log10, -0.4, top),
        lambda: unary(size_of(a), "log1p", torch.log1p, 0, b),
        lambda: unary(positive, "sqrt", torch.sqrt, 0.7, 1 + top),
        lambda: unary(positive, "rsqrt", torch.rsqrt, 0, 1.5),
        lambda: unary(positive, "reciprocal", torch.reciprocal, 0, 2),
        lambda: unary(positive, "lgamma", torch.lgamma, -0.2, 4 * top * top),
        lambda: unary(positive, "digamma", torch.digamma, -2, top),
        lambda: unary(a, "sin", torch.sin, -1, 1),
        lambda: unary(a, "cos", torch.cos, -1, 1),
        lambda: unary(small, "tan", torch.tan, -1.6, 1.6),
        lambda: unary(times(small, 0.9), "asin", torch.asin, -1.2, 1.2),
        lambda: unary(times(small, 0.9), "acos", torch.acos, 0, 3.2),
        lambda: unary(times(small, 0.9), "atanh", torch.atanh, -1.5, 1.5),
        lambda: unary(times(small, 0.9), "erfinv", torch.erfinv, -1.3, 1.3),
        lambda: unary(plus(positive, 1.0), "acosh", torch.acosh, 0, top + 1),
        lambda: unary(a, "atan", torch.atan, -1.6, 1.6),
        lambda: unary(a, "asinh", torch.asinh, -b, b),
        lambda: unary(small, "sinh", torch.sinh, -1.2, 1.2),
        lambda: unary(small, "cosh", torch.cosh, 1, 1.6),
        lambda: unary(a, "tanh", torch.tanh, -1, 1),
        lambda: unary(a, "sigmoid", torch.sigmoid, 0, 1),
        lambda: unary(a, "erf", torch.erf, -1, 1),
        lambda: unary(a, "erfc", torch.erfc, 0, 2),
    ]
    if a.exact:
        choices += [
            lambda: unary(a, "floor", torch.floor, a.low - 1, a.high, exact=True),
            lambda: unary(a, "ceil", torch.ceil, a.low, a.high + 1, exact=True),
            lambda: unary(a, "round", torch.round, a.low - 1, a.high + 1, exact=True),
            lambda: unary(a, "trunc", torch.trunc, -b, b, exact=True),
            lambda: unary(a, "sign", torch.sign, -1, 1, exact=True),
            lambda: unary(a, "angle", torch.angle, 0, 3.2),
        ]
    return m.random.choice(choices)()


def float_binary(m: Maker, a: Expr, b: Expr) -> Expr:
    """A function of two real numbers."""
    if a.bound * b.bound > 400:
        a, b = tame(a), tame(b)
    x, y = a.bound, b.bound
    away = plus(size_of(b), 0.75)
    choices: list[Callable[[], Expr]] = [
        lambda: binary(a, b, "add", torch.add, a.low + b.low, a.high + b.high),
        lambda: binary(a, b, "sub", torch.sub, a.low - b.high, a.high - b.low),
        lambda: binary(a, b, "mul", torch.mul, -x * y, x * y),
        lambda: binary(a, away, "div", torch.div, -x * 4 / 3, x * 4 / 3),
        lambda: binary(a, away, "atan2", torch.atan2, -1.6, 1.6),
        lambda: binary(a, b, "hypot", torch.hypot, 0, x + y),
        lambda: binary(plus(size_of(tame(a)), 0.5), tame(b), "pow", torch.pow, 0.4, 2),
        lambda: binary(a, b, "max", torch.maximum, max(a.low, b.low), max(a.high, b.high), exact=True),
        lambda: binary(a, b, "min", torch.minimum, min(a.low, b.low), min(a.high, b.high), exact=True),
        lambda: binary(a, b, "fmax", torch.fmax, max(a.low, b.low), max(a.high, b.high), exact=True),
        lambda: binary(a, b, "fmin", torch.fmin, min(a.low, b.low), min(a.high, b.high), exact=True),
    ]
    if a.exact and b.exact:
        choices += [
            lambda: binary(a, b, "copysign", torch.copysign, -x, x, exact=True),
            lambda: chosen(m, a, b),
            lambda: divided(m, a),
        ]
    return m.random.choice(choices)()


def divided(m: Maker, a: Expr) -> Expr:
    """Division with a whole quotient, or its rest, by a number that no exact value is a multiple of."""
    by, top = m.random.choice((0.7, 1.3)), 2 * a.bound + 2
    rounded = {"floordiv": "floor", "truncdiv": "trunc"}
    name = m.random.choice(("floordiv", "truncdiv", "mod", "fmod"))
    how = {"mod": torch.remainder, "fmod": torch.fmod}.get(
        name, lambda x, y: torch.div(x, y, rounding_mode=rounded[name])
    )
    number = Expr(const(by, a.dtype), lambda e: torch.tensor(by, dtype=torch.float64), by, by, exact=True)
    return binary(plus(a, 0.01), number, name, how, -top, top)


COMPARISONS = {"lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne}


def compared(m: Maker, a: Expr, b: Expr) -> Expr:
    """A comparison of exact values."""
    name = m.random.choice(("eq", "ne") if a.dtype.is_complex else tuple(COMPARISONS))
    return binary(a, b, name, COMPARISONS[name], 0, 1, exact=True)


def chosen(m: Maker, a: Expr, b: Expr) -> Expr:
    """``where(compared, a, b)``."""
    condition = compared(m, a, b) if m.random.random() < 0.5 else converted(a, DType.BOOL)
    test, yes, no = condition.run, a.run, b.run
    made = where(condition.term, a.term, b.term)
    low, high = min(a.low, b.low), max(a.high, b.high)
    return Expr(made, lambda e: torch.where(test(e), yes(e), no(e)), low, high, exact=True)


def converted(a: Expr, dtype: DType) -> Expr:
    """A cast that loses nothing in double precision; complex to real takes the real part."""
    inner, target = a.run, torch_type(dtype)

    def run(env: Env) -> torch.Tensor:
        value = inner(env)
        return value.real.to(target) if value.is_complex() and not target.is_complex else value.to(target)

    low = -a.bound if a.dtype.is_complex else a.low
    if dtype is DType.BOOL:
        return Expr(cast(a.term, dtype), lambda e: inner(e) != 0, 0, 1, exact=a.exact)
    return Expr(cast(a.term, dtype), run, low, a.high, exact=a.exact)


def guarded(m: Maker, a: Expr, other: Expr, loops: Sequence[Iter]) -> Expr:
    """``a`` on a part of one loop, ``other`` beyond it."""
    if not loops:
        return a
    axis = m.random.randrange(len(loops))
    low, high = m.random.choice((0, 1)), loops[axis].extent - index(m.random.choice((0, 1)))
    made = select(guard((low, loops[axis], high)), a.term, other.term)
    rank, extent, stop = len(loops), m.dim(loops[axis].extent), m.dim(high)

    def run(env: Env) -> torch.Tensor:
        at = torch.arange(extent).reshape([-1 if n == axis else 1 for n in range(rank)])
        return torch.where((low <= at) & (at < stop), a.run(env), other.run(env))

    return Expr(made, run, min(a.low, other.low), max(a.high, other.high), exact=a.exact and other.exact)
