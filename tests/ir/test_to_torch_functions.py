"""Every scalar function against numpy and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

from tpopt.ir import Apply, Cast, DType, Program, compute, tensor
from tpopt.ir.functions import FUNCTIONS as TABLE
from tpopt.ir.to_torch import to_torch
from tpopt.ir.to_torch.functions import FUNCTIONS

POINTS = np.array([-2.5, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.5])
REAL: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sigmoid": special.expit, "erf": special.erf,
    "erfc": special.erfc, "erfinv": special.erfinv, "lgamma": special.gammaln, "ceil": np.ceil, "floor": np.floor,
    "round": np.rint, "trunc": np.trunc, "neg": np.negative, "abs": np.abs, "sign": np.sign,
    "reciprocal": lambda x: 1 / x, "isnan": np.isnan, "isinf": np.isinf, "signbit": np.signbit,
    "angle": lambda x: np.where(x < 0, np.pi, 0.0),
    "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "sub": np.subtract, "div": np.divide,
    "floordiv": np.floor_divide, "truncdiv": lambda a, b: np.trunc(a / b), "mod": np.mod, "fmod": np.fmod,
    "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign, "fmax": np.fmax, "fmin": np.fmin,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
INTEGER: dict[str, Callable[..., Any]] = {
    "not": np.invert, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "shl": np.left_shift,
    "shr": np.right_shift, "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "eq": np.equal, "lt": np.less,
}  # fmt: skip
COMPLEX: dict[str, Callable[..., Any]] = {
    "real": np.real, "imag": np.imag, "conj": np.conj, "abs": np.abs, "angle": np.angle, "exp": np.exp, "sqrt": np.sqrt,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "reciprocal": lambda z: 1 / z, "mul": np.multiply, "div": np.divide,
}  # fmt: skip


def applied(name: str, *arrays: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    names = [tensor(f"x{n}", a.shape, dtype) for n, a in enumerate(arrays)]
    stage = compute("y", arrays[0].shape, lambda *at: Apply(name, tuple(t.at(at) for t in names)))
    run = to_torch(Program("p", tuple(names), (), (stage,), stage.outs).validate())
    return run(*map(torch.from_numpy, arrays))[0].numpy()


def operands(count: int, points: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [points] if count == 1 else [a.copy() for a in np.meshgrid(points, points, indexing="ij")]


def arity(name: str) -> int:
    return abs(TABLE[name].arity) if TABLE[name].arity > 0 else 2


def test_every_function_has_an_implementation():
    assert sorted(FUNCTIONS) == sorted(TABLE)


@pytest.mark.parametrize("name", REAL)
def test_reals(name: str):
    given = operands(arity(name), POINTS)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(applied(name, *given, dtype=DType.F64), REAL[name](*given), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", INTEGER)
def test_integers(name: str):
    points = np.array([0, 1, 2, 3, 7]) if name in ("shl", "shr") else np.array([-7, -2, 0, 1, 2, 5])
    given = operands(arity(name), points)
    np.testing.assert_array_equal(applied(name, *given, dtype=DType.I64), INTEGER[name](*given))


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers(name: str):
    given = operands(arity(name), np.array([1 + 2j, -0.5 + 1j, 2 - 1j]))
    np.testing.assert_allclose(applied(name, *given, dtype=DType.C128), COMPLEX[name](*given), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"), [("floordiv", [-4, 3, 0]), ("truncdiv", [-3, 3, 0]), ("mod", [1, 1, 0]), ("fmod", [-1, 1, 0])]
)
def test_integer_division_rounds_as_named_and_survives_zero(name: str, expected: list[int]):
    assert applied(name, np.array([-7, 7, 7]), np.array([2, 2, 0]), dtype=DType.I64).tolist() == expected


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_propagate_nan(name: str):
    assert np.isnan(applied(name, np.array([np.nan, 1.0]), np.array([1.0, np.nan]), dtype=DType.F64)).all()


@pytest.mark.parametrize("name", ["fmax", "fmin"])
def test_the_other_extremes_ignore_nan(name: str):
    assert applied(name, np.array([np.nan, 1.0]), np.array([1.0, np.nan]), dtype=DType.F64).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("source", "target", "given", "expected"),
    [
        (DType.F32, DType.I32, [-1.7, 1.7], [-1, 1]),
        (DType.F32, DType.BOOL, [0.0, -0.5], [False, True]),
        (DType.C64, DType.F32, [1 + 2j, -3j], [1.0, 0.0]),
        (DType.C64, DType.BOOL, [2j, 0j], [True, False]),
        (DType.BOOL, DType.F32, [True, False], [1.0, 0.0]),
        (DType.F32, DType.C64, [1.5], [1.5 + 0j]),
    ],
)
def test_casts(source: DType, target: DType, given: list[Any], expected: list[Any]):
    x = tensor("x", (len(given),), source)
    stage = compute("y", (len(given),), lambda i: Cast(target, x[i]))
    run = to_torch(Program("p", (x,), (), (stage,), stage.outs))
    assert run(torch.tensor(given))[0].tolist() == expected
