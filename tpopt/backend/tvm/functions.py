"""The functions of the IR on values: real ones by :mod:`tpopt.backend.tvm.mathematics`, complex ones by their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from tpopt.backend.tvm import mathematics
from tpopt.backend.tvm.code import Expr, extract, is_zero
from tpopt.backend.tvm.elements import Value, choose, computed, widened, width_of
from tpopt.errors import KernelUnsupported
from tpopt.ir import DType

Bind = Callable[[Expr], Expr]


def apply(name: str, args: Sequence[Value], dtype: DType, bind: Bind) -> Value:
    """``name(*args)`` for arguments of type ``dtype`` (of ``where``: of the branches), in the lanes of the widest.

    Raises :class:`KernelUnsupported` for a function that has no code on complex numbers.
    """
    lanes = max(width_of(a) for a in args)
    wide = [widened(a, lanes) for a in args]
    if name == "where":
        return choose(*wide)
    if any(isinstance(a, tuple) for a in wide):
        return _on_pairs(name, wide, dtype, bind)
    if name == "complex":
        return tuple(wide)
    kind = computed(dtype)
    if lanes == 1 or mathematics.vectorizes(name, kind):
        return mathematics.lower(name, wide, kind, bind)
    single = [mathematics.lower(name, [bind(extract(a, k)) for a in wide], kind, bind) for k in range(lanes)]
    return tirx.Shuffle([bind(s) for s in single], list(range(lanes)))


def _on_pairs(name: str, args: Sequence[Value], dtype: DType, bind: Bind) -> Value:
    if name not in _COMPLEX:
        raise KernelUnsupported(f"{name} of {dtype} has no generated code")
    real = dtype.real

    def on(function: str, *parts: Expr) -> Expr:
        return apply(function, parts, real, bind)

    result = args[0]
    if name in ("add", "mul"):
        for other in args[1:]:
            result = _COMPLEX[name](on, _named(result, bind), _named(other, bind))
        return result
    return _COMPLEX[name](on, *(_named(a, bind) for a in args))


def _named(value: Value, bind: Bind) -> Value:
    return tuple(bind(v) for v in value)


On = Callable[..., Expr]


def _product(on: On, a: Value, b: Value) -> Value:
    if is_zero(a[1]):
        a, b = b, a
    if is_zero(b[1]):  # a real number: half of the products, and none of 0 by infinity
        return on("mul", a[0], b[0]), on("mul", a[1], b[0])
    return (
        on("sub", on("mul", a[0], b[0]), on("mul", a[1], b[1])),
        on("add", on("mul", a[0], b[1]), on("mul", a[1], b[0])),
    )


def _squared(on: On, a: Value) -> Expr:
    return on("add", on("mul", a[0], a[0]), on("mul", a[1], a[1]))


def _reciprocal(on: On, a: Value) -> Value:
    size = _squared(on, a)
    return on("div", a[0], size), on("neg", on("div", a[1], size))


def _equal(on: On, a: Value, b: Value) -> Expr:
    return tirx.And(on("eq", a[0], b[0]), on("eq", a[1], b[1]))


def _exp(on: On, a: Value) -> Value:
    size = on("exp", a[0])
    return on("mul", size, on("cos", a[1])), on("mul", size, on("sin", a[1]))


_COMPLEX: dict[str, Callable[..., Value]] = {
    "add": lambda on, a, b: (on("add", a[0], b[0]), on("add", a[1], b[1])),
    "sub": lambda on, a, b: (on("sub", a[0], b[0]), on("sub", a[1], b[1])),
    "mul": _product,
    "div": lambda on, a, b: _product(on, a, _reciprocal(on, b)),
    "reciprocal": _reciprocal,
    "neg": lambda on, a: (on("neg", a[0]), on("neg", a[1])),
    "conj": lambda on, a: (a[0], on("neg", a[1])),
    "real": lambda on, a: a[0],
    "imag": lambda on, a: a[1],
    "abs": lambda on, a: on("hypot", a[0], a[1]),
    "angle": lambda on, a: on("atan2", a[1], a[0]),
    "exp": _exp,
    "eq": _equal,
    "ne": lambda on, a, b: tirx.Not(_equal(on, a, b)),
    "isnan": lambda on, a: tirx.Or(on("isnan", a[0]), on("isnan", a[1])),
    "isinf": lambda on, a: tirx.Or(on("isinf", a[0]), on("isinf", a[1])),
}
