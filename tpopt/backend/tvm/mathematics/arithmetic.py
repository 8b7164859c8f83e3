"""Functions that are arithmetic, comparison or rounding: the same on every type, or exact on each."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from types import MappingProxyType

from tvm import tirx

from tpopt.backend.tvm.code import Expr, differ, element_of, lanes_of, literal
from tpopt.backend.tvm.mathematics.floats import Bind, Make, bits_of, copysign, intrinsic, is_nan, like, size_of
from tpopt.backend.tvm.mathematics.instructions import reciprocal_root
from tpopt.ir import DType


def apart(x: Expr, y: Expr) -> Expr:
    """Where one of two bools holds and the other does not: TVM compares bools as if they were floats."""
    return tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(tirx.Not(x), y))


def _extreme(largest: bool) -> Make:
    """The largest or smallest argument; NaN wins over any number.

    LLVM takes seconds over chains of comparisons and selections that mean the same.
    """

    def pair(x: Expr, y: Expr, dtype: DType) -> Expr:
        if dtype is DType.BOOL:
            return tirx.Or(x, y) if largest else tirx.And(x, y)
        if dtype.is_float:
            return intrinsic("maximum" if largest else "minimum", x, y)
        return tirx.Max(x, y) if largest else tirx.Min(x, y)

    return lambda a, dtype, bind: reduce(lambda x, y: bind(pair(x, y, dtype)), a)


def _number(largest: bool) -> Make:
    """fmax and fmin: a number wins over NaN."""

    def make(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
        if dtype.is_float:
            return intrinsic("maxnum" if largest else "minnum", a[0], a[1])
        return _extreme(largest)(a, dtype, bind)

    return make


def _and(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    return reduce(tirx.And if dtype is DType.BOOL else tirx.bitwise_and, a)


def _or(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    return reduce(tirx.Or if dtype is DType.BOOL else tirx.bitwise_or, a)


def _xor(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    if dtype is not DType.BOOL:
        return reduce(tirx.bitwise_xor, a)
    return reduce(lambda x, y: apart(bind(x), bind(y)), a)


def _equal(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    return tirx.Not(_xor(a, dtype, bind)) if dtype is DType.BOOL else tirx.EQ(a[0], a[1])


def _unequal(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    return _xor(a, dtype, bind) if dtype is DType.BOOL else differ(a[0], a[1])


def _ordered(compare: Callable[[Expr, Expr], Expr]) -> Make:
    def make(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
        if dtype is DType.BOOL:
            ones = [tirx.Select(x, literal(1, "int32", lanes_of(x)), literal(0, "int32", lanes_of(x))) for x in a]
            return compare(*ones)
        return compare(a[0], a[1])

    return make


def _pow(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    """Integer powers: squares by the bits of the exponent; a negative one leaves nothing but powers of 1 and -1."""
    x, n = bind(a[0]), bind(a[1])
    one, zero = like(1, x), like(0, x)
    result, square = one, x
    bits = 7 if element_of(x) in ("int8", "uint8") else 63
    for k in range(min(bits, 63)):
        odd = tirx.NE(tirx.bitwise_and(tirx.shift_right(n, like(k, n)), like(1, n)), like(0, n))
        result = bind(tirx.Select(odd, result * square, result))
        square = bind(square * square)
    odd = tirx.NE(tirx.bitwise_and(n, like(1, n)), like(0, n))
    if element_of(x) == "uint8":
        return result
    unit = tirx.Select(tirx.EQ(x, like(-1, x)), tirx.Select(odd, like(-1, x), one), zero)
    negative = tirx.Select(tirx.EQ(x, one), one, unit)
    return tirx.Select(n < like(0, n), negative, result)


def _floordiv(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    x, y = bind(a[0]), bind(a[1])
    quotient = bind(tirx.Div(x, y))
    rest = bind(x - quotient * y)
    down = tirx.And(tirx.NE(rest, like(0, x)), apart(rest < like(0, x), y < like(0, x)))
    return tirx.Select(down, quotient - like(1, x), quotient) if element_of(x) != "uint8" else quotient


def _mod(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    x, y = bind(a[0]), bind(a[1])
    return x - bind(_floordiv([x, y], dtype, bind)) * y


def _fmod(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    x, y = bind(a[0]), bind(a[1])
    return x - tirx.Div(x, y) * y


def _shift(left: bool) -> Make:
    """Shifts by as many bits as there are, or more, leave what shifting one by one would."""

    def make(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
        x, n = bind(a[0]), bind(a[1])
        width = int(x.ty.dtype.bits)
        out = bind(tirx.Or(n < like(0, n), n >= like(width, n)))
        safe = tirx.Select(out, like(0, n), n)
        if left:
            return tirx.Select(out, like(0, x), tirx.shift_left(x, safe))
        gone = like(0, x) if element_of(x) == "uint8" else tirx.shift_right(x, like(width - 1, x))
        return tirx.Select(out, gone, tirx.shift_right(x, safe))

    return make


def _sign(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    if dtype is DType.BOOL:
        return a[0]
    x = bind(a[0])
    zero = like(0, x)
    unit = tirx.Select(x > zero, like(1, x), tirx.Select(x < zero, like(-1, x), zero))
    return tirx.Select(is_nan(x), zero, unit) if dtype.is_float else unit


def _reciprocal(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    return tirx.Div(like(1.0, a[0]), a[0])


def _float_floordiv(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    """As torch has it: from the exact remainder, so that it agrees with mod."""
    x, y = bind(a[0]), bind(a[1])
    rest = bind(_remainder(x, y, bind))
    div = bind(tirx.Div(x - rest, y))
    crossed = tirx.And(differ(rest, like(0.0, x)), apart(rest < like(0.0, x), y < like(0.0, x)))
    div = bind(tirx.Select(crossed, div - like(1.0, x), div))
    down = bind(intrinsic("floor", div))
    near = bind(tirx.Select(div - down > like(0.5, x), down + like(1.0, x), down))
    near = tirx.Select(tirx.EQ(div, like(0.0, x)), copysign(like(0.0, x), tirx.Div(x, y)), near)
    return tirx.Select(tirx.EQ(y, like(0.0, x)), tirx.Div(x, y), near)


def _float_mod(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    x, y = bind(a[0]), bind(a[1])
    rest = bind(_remainder(x, y, bind))
    crossed = tirx.And(differ(rest, like(0.0, x)), apart(rest < like(0.0, x), y < like(0.0, x)))
    return tirx.Select(crossed, rest + y, rest)


def _remainder(x: Expr, y: Expr, bind: Bind) -> Expr:
    """``x - y * trunc(x / y)``, exactly: the C library's."""
    return tirx.call_pure_extern(element_of(x), "fmodf" if element_of(x) == "float32" else "fmod", x, y)


def _truncdiv(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    quotient = tirx.Div(a[0], a[1])
    return intrinsic("trunc", quotient) if dtype.is_float else quotient


SHARED: MappingProxyType[str, Make] = MappingProxyType(
    {
        "add": lambda a, d, bind: _or(a, d, bind) if d is DType.BOOL else reduce(lambda x, y: x + y, a),
        "mul": lambda a, d, bind: _and(a, d, bind) if d is DType.BOOL else reduce(lambda x, y: x * y, a),
        "sub": lambda a, d, bind: a[0] - a[1],
        "max": _extreme(largest=True),
        "min": _extreme(largest=False),
        "fmax": _number(largest=True),
        "fmin": _number(largest=False),
        "eq": _equal,
        "ne": _unequal,
        "lt": _ordered(tirx.LT),
        "le": _ordered(tirx.LE),
        "gt": _ordered(tirx.GT),
        "ge": _ordered(tirx.GE),
        "sign": _sign,
        "truncdiv": _truncdiv,
    }
)

INTEGERS: MappingProxyType[str, Make] = MappingProxyType(
    {
        "neg": lambda a, d, bind: like(0, a[0]) - a[0],
        "abs": lambda a, d, bind: (
            a[0] if d in (DType.BOOL, DType.U8) else tirx.Select(bind(a[0]) < like(0, a[0]), like(0, a[0]) - a[0], a[0])
        ),
        "and": _and,
        "or": _or,
        "xor": _xor,
        "not": lambda a, d, bind: (
            tirx.Not(a[0])
            if d is DType.BOOL
            else tirx.bitwise_xor(a[0], like(-1, a[0]))
            if element_of(a[0]) != "uint8"
            else tirx.bitwise_xor(a[0], like(255, a[0]))
        ),
        "floordiv": _floordiv,
        "mod": _mod,
        "fmod": _fmod,
        "pow": _pow,
        "shl": _shift(left=True),
        "shr": _shift(left=False),
        "signbit": lambda a, d, bind: a[0] < like(0, a[0]),
        "isnan": lambda a, d, bind: literal(False, "bool", lanes_of(a[0])),
        "isinf": lambda a, d, bind: literal(False, "bool", lanes_of(a[0])),
    }
)

FLOATS: MappingProxyType[str, Make] = MappingProxyType(
    {
        "neg": lambda a, d, bind: tirx.Mul(a[0], like(-1.0, a[0])),
        "abs": lambda a, d, bind: size_of(a[0]),
        "div": lambda a, d, bind: tirx.Div(a[0], a[1]),
        "sqrt": lambda a, d, bind: intrinsic("sqrt", a[0]),
        "rsqrt": lambda a, d, bind: reciprocal_root(a[0], bind),
        "reciprocal": _reciprocal,
        "ceil": lambda a, d, bind: intrinsic("ceil", a[0]),
        "floor": lambda a, d, bind: intrinsic("floor", a[0]),
        "round": lambda a, d, bind: intrinsic("rint", a[0]),
        "trunc": lambda a, d, bind: intrinsic("trunc", a[0]),
        "copysign": lambda a, d, bind: copysign(a[0], a[1]),
        "isnan": lambda a, d, bind: is_nan(bind(a[0])),
        "isinf": lambda a, d, bind: tirx.EQ(size_of(a[0]), like(float("inf"), a[0])),
        "signbit": lambda a, d, bind: bits_of(a[0]) < like(0, bits_of(a[0])),
        "conj": lambda a, d, bind: a[0],
        "real": lambda a, d, bind: a[0],
    }
)

LANE_BY_LANE: MappingProxyType[str, Make] = MappingProxyType(
    {"floordiv": _float_floordiv, "mod": _float_mod, "fmod": lambda a, d, bind: _remainder(a[0], a[1], bind)}
)
