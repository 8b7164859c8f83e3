"""The scalar functions on numpy arrays, by kind of argument. Results are converted to the result type by the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from tpopt.ir.program import Array

Implementation: TypeAlias = Callable[..., Any]


class _Special:
    """scipy.special, imported with the first value that needs it: it takes 0.3 s, and few processes interpret."""

    def __getattr__(self, name: str) -> Implementation:
        def call(*args: Any) -> Any:
            from scipy import special as functions

            return getattr(functions, name)(*args)

        return call


special = _Special()


def _sign(x: Array) -> Array:
    return np.asarray((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))  # 0 for NaN, as torch


def _lgamma(x: Array) -> Array:
    return np.asarray(np.where(np.isinf(x), np.inf, special.gammaln(x)))


def _digamma(x: Array) -> Array:
    at_zero = np.copysign(np.inf, -x)  # the one-sided limits
    return np.asarray(np.where(x == 0, at_zero, np.where((x < 0) & (x == np.floor(x)), np.nan, special.psi(x))))


def _angle(x: Array) -> Array:
    return np.asarray(np.where(np.isnan(x), x, np.where(x < 0, np.pi, 0.0)))


def _complex(a: Array, b: Array) -> Array:
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.complex128)
    out.real, out.imag = a, b
    return out


_REALS: dict[str, Implementation] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1.0 / np.sqrt(x), "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sigmoid": special.expit,
    "erf": special.erf, "erfc": special.erfc, "erfinv": special.erfinv, "lgamma": _lgamma, "digamma": _digamma,
    "ceil": np.ceil, "floor": np.floor, "round": np.rint, "trunc": np.trunc, "neg": np.negative, "abs": np.abs,
    "sign": _sign, "reciprocal": lambda x: 1.0 / x, "isnan": np.isnan, "isinf": np.isinf, "signbit": np.signbit,
    "angle": _angle, "complex": _complex, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "sub": np.subtract, "div": np.divide, "floordiv": np.floor_divide, "truncdiv": lambda a, b: np.trunc(a / b),
    "mod": np.mod, "fmod": np.fmod, "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot,
    "copysign": np.copysign, "fmax": np.fmax, "fmin": np.fmin, "eq": np.equal, "ne": np.not_equal, "lt": np.less,
    "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "where": np.where,
}  # fmt: skip

_COMPLEX: dict[str, Implementation] = {
    "exp2": lambda z: np.exp(z * np.log(2.0)),
    "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "angle": np.angle,
}


def _truncdiv(a: Array, b: Array) -> Array:
    quotient = np.floor_divide(a, b)
    inexact = (quotient * b != a) & ((a < 0) != (b < 0)) & (b != 0)
    return np.asarray(quotient + inexact.astype(quotient.dtype))


def _power(a: Array, b: Array) -> Array:
    """Integer powers with wrap-around; a negative exponent gives the truncated reciprocal: 0 unless ``|a| == 1``."""
    positive = np.power(a, np.maximum(b, 0), dtype=a.dtype)
    odd = (b & 1).astype(bool)
    reciprocal = np.where(a == 1, 1, np.where(a == -1, np.where(odd, -1, 1), 0)) if a.dtype.kind == "i" else a == 1
    return np.asarray(np.where(b < 0, reciprocal, positive)).astype(a.dtype)


_INTEGERS: dict[str, Implementation] = {
    "sign": lambda x: x if x.dtype == bool else np.sign(x),
    "isnan": lambda x: np.zeros(x.shape, bool),
    "isinf": lambda x: np.zeros(x.shape, bool),
    "signbit": lambda x: x < 0,
    "not": np.invert,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "floordiv": np.floor_divide,
    "truncdiv": _truncdiv,
    "fmax": np.maximum,
    "fmin": np.minimum,
    "pow": _power,
}

REALS: Mapping[str, Implementation] = MappingProxyType(_REALS)
COMPLEX: Mapping[str, Implementation] = MappingProxyType(_COMPLEX)
INTEGERS: Mapping[str, Implementation] = MappingProxyType(_INTEGERS)
