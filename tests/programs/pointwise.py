"""Random terms of every type, and the stages made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from programs.expressions import (
    Expr,
    binary,
    chosen,
    compared,
    converted,
    float_binary,
    float_unary,
    guarded,
    literal,
    read,
    size_of,
    tame,
    times,
    unary,
    where_we_are,
)
from programs.maker import FLOATS, INTEGERS, Maker, Value
from tpopt.ir import Compute, DType, Iter, Size, Tensor

RANGE = {DType.I64: 2**62, DType.I32: 2**30, DType.I16: 2**14, DType.I8: 127, DType.U8: 255}


def fits(dtype: DType, low: float, high: float) -> bool:
    """Whether integers of that range are far from wrapping around."""
    return high <= min(RANGE[dtype], 10**6) and low >= (0 if dtype is DType.U8 else -min(RANGE[dtype], 10**6))


def integer_step(m: Maker, a: Expr, b: Expr) -> Expr:
    """A function of integers that stays within their type."""
    dtype, by = a.dtype, abs(int(literal(m, a.dtype).low)) + 2
    divisor = Expr(*_number(by, dtype))
    small = binary(a, divisor, "mod", torch.remainder, 0, by - 1, exact=True)
    shift = Expr(*_number(m.random.choice((1, 2)), dtype))
    choices: list[Callable[[], Expr]] = [
        lambda: small,
        lambda: binary(a, divisor, "floordiv", _divide("floor"), a.low // by, a.high // by, exact=True),
        lambda: binary(a, divisor, "truncdiv", _divide("trunc"), a.low, a.high, exact=True),
        lambda: binary(a, divisor, "fmod", torch.fmod, min(a.low, 0), by, exact=True),
        lambda: binary(a, b, "max", torch.maximum, max(a.low, b.low), max(a.high, b.high), exact=True),
        lambda: binary(a, b, "min", torch.minimum, min(a.low, b.low), min(a.high, b.high), exact=True),
        lambda: binary(small, shift, "shl", torch.bitwise_left_shift, 0, 4 * by, exact=True),
        lambda: binary(a, shift, "shr", torch.bitwise_right_shift, a.low, max(a.high, 0), exact=True),
        lambda: chosen(m, a, b),
    ]
    if a.low >= 0 and b.low >= 0:
        top = 2 ** int(max(a.high, b.high, 1)).bit_length() - 1
        choices += [
            lambda: binary(a, b, "and", torch.bitwise_and, 0, top, exact=True),
            lambda: binary(a, b, "or", torch.bitwise_or, 0, top, exact=True),
            lambda: binary(a, b, "xor", torch.bitwise_xor, 0, top, exact=True),
        ]
    if dtype is not DType.U8:
        choices += [
            lambda: unary(a, "not", torch.bitwise_not, -a.high - 1, -a.low - 1, exact=True),
            lambda: unary(a, "sign", torch.sign, -1, 1, exact=True),
            lambda: size_of(a),
            lambda: binary(a, b, "sub", torch.sub, a.low - b.high, a.high - b.low, exact=True),
        ]
    choices += [lambda: binary(a, b, "add", torch.add, a.low + b.low, a.high + b.high, exact=True)]
    choices += [lambda: binary(a, b, "mul", torch.mul, -a.bound * b.bound, a.bound * b.bound, exact=True)]
    made = m.random.choice(choices)()
    return made if fits(dtype, made.low, made.high) else small


def _number(value: int, dtype: DType):
    from programs.maker import torch_type
    from tpopt.ir import const

    return const(value, dtype), lambda e: torch.tensor(value, dtype=torch_type(dtype)), min(value, 0), value, True


def _divide(mode: str) -> Callable[..., torch.Tensor]:
    return lambda a, b: torch.div(a, b, rounding_mode=mode)


def bool_step(m: Maker, a: Expr, b: Expr) -> Expr:
    """A function of truth values."""
    name, run = m.random.choice(
        (
            ("and", torch.logical_and),
            ("or", torch.logical_or),
            ("xor", torch.logical_xor),
            ("not", None),
            ("eq", torch.eq),
        )
    )
    return (
        unary(a, "not", torch.logical_not, 0, 1, exact=True)
        if run is None
        else binary(a, b, name, run, 0, 1, exact=True)
    )


def complex_step(m: Maker, a: Expr, b: Expr) -> Expr:
    """A function of complex numbers."""
    if a.bound * b.bound > 400:
        a, b = times(a, 0.0625), times(b, 0.0625)
    x, y = a.bound, b.bound
    choices: list[Callable[[], Expr]] = [
        lambda: binary(a, b, "add", torch.add, -x - y, x + y),
        lambda: binary(a, b, "sub", torch.sub, -x - y, x + y),
        lambda: binary(a, b, "mul", torch.mul, -x * y, x * y),
        lambda: unary(a, "conj", torch.conj_physical, -x, x, exact=True),
        lambda: unary(a, "neg", torch.neg, -x, x, exact=True),
    ]
    if x < 3:
        choices += [lambda: unary(a, "exp", torch.exp, 0, 20), lambda: unary(a, "sin", torch.sin, -20, 20)]
    return m.random.choice(choices)()


def leaf(m: Maker, loops: Sequence[Iter], dtype: DType) -> Expr:
    """A read where one fits, else an index or a literal."""
    alike = [v for v in m.values if v.dtype is dtype]
    near = [v for v in m.values if _converts(v, dtype)]
    for pool in (alike, near):
        for value in m.random.sample(pool, min(len(pool), 4)):
            found = read(m, value, loops)
            if found is not None and m.random.random() < 0.85:
                return found if value.dtype is dtype else converted(found, dtype)
    if (dtype.is_float or dtype is DType.I64) and m.random.random() < 0.4:
        return where_we_are(m, loops, dtype)
    return literal(m, dtype)


def _converts(value: Value, dtype: DType) -> bool:
    if dtype is DType.BOOL:
        return value.exact and not value.dtype.is_complex
    if dtype.is_integer:
        return value.exact and not value.dtype.is_complex and fits(dtype, value.low, value.high)
    return True


def expression(m: Maker, loops: Sequence[Iter], dtype: DType, depth: int) -> Expr:
    """A term of that type over the loops."""
    if depth == 0:
        return leaf(m, loops, dtype)
    a, b = expression(m, loops, dtype, depth - 1), leaf(m, loops, dtype)
    if m.random.random() < 0.15:
        return guarded(m, a, b, loops)
    if dtype is DType.BOOL:
        return _truth(m, loops, a, b)
    if dtype.is_integer:
        return integer_step(m, a, b)
    if dtype.is_complex:
        return complex_step(m, a, b)
    if m.random.random() < 0.1:
        return _from_complex(m, expression(m, loops, DType.C128, depth - 1), dtype)
    return float_unary(m, a) if m.random.random() < 0.5 else float_binary(m, a, b)


def _truth(m: Maker, loops: Sequence[Iter], a: Expr, b: Expr) -> Expr:
    if m.random.random() < 0.5:
        return bool_step(m, a, b)
    kind = m.random.choice((DType.F32, DType.I64, DType.F64))
    x, y = leaf(m, loops, kind), leaf(m, loops, kind)
    if x.exact and y.exact and m.random.random() < 0.7:
        return compared(m, x, y)
    tests = [("isnan", torch.isnan), ("isinf", torch.isinf)]
    if x.exact and not x.dtype.is_complex:
        tests.append(("signbit", torch.signbit))
    return unary(x, *m.random.choice(tests), 0, 1)


def _from_complex(m: Maker, z: Expr, dtype: DType) -> Expr:
    b = z.bound
    name, run = m.random.choice((("real", torch.real), ("imag", torch.imag), ("abs", torch.abs)))
    return converted(unary(z, name, run, -b, b), dtype)


def stage(m: Maker, name: str, loops: tuple[Iter, ...], made: Sequence[Expr]) -> list[Value]:
    """Adds one Compute of several terms over the same loops."""
    shape = tuple(i.extent for i in loops)
    outs = tuple(Tensor(m.name(name), shape, e.dtype) for e in made)
    dims = m.dims(shape)

    def run(env):  # type: ignore[no-untyped-def]
        return [e.run(env).broadcast_to(dims) for e in made]

    return m.add(
        Compute(outs, loops, tuple(e.term for e in made)), run, [(e.low, e.high, e.exact, False) for e in made]
    )


def pointwise(m: Maker) -> None:
    """One or two terms over the shape of an existing tensor, or over a new shape."""
    like = m.pick(lambda v: True)
    shape: tuple[Size, ...] = m.shape() if like is None or m.random.random() < 0.2 else like.shape
    loops = m.loops(shape, m.random.choice(("i", "a")))
    dtypes = [m.random.choice((*FLOATS, *FLOATS, *INTEGERS[:4], DType.BOOL, DType.BOOL, DType.C64, DType.C128))]
    if m.random.random() < 0.2:
        dtypes.append(m.random.choice(FLOATS))
    stage(m, "p", loops, [_bounded(expression(m, loops, d, m.random.choice((1, 2, 2, 3, 4)))) for d in dtypes])


def convert(m: Maker) -> None:
    """A cast of a whole tensor."""
    value = m.pick(lambda v: True)
    target = m.random.choice((*FLOATS, *INTEGERS, DType.BOOL, DType.C64))
    if value is None or not _converts(value, target) or value.dtype is target:
        return
    loops = m.loops(value.shape)
    found = read(m, value, loops)
    assert found is not None
    stage(m, "c", loops, [converted(found, target)])


def _bounded(e: Expr) -> Expr:
    """Small enough to go on with."""
    return tame(e) if e.dtype.is_float and e.bound > 200 else e
