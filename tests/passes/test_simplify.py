"""Each law of ``simplify`` with what it does, and a twin that it must refuse."""

# ruff: noqa: E501 (a case is a line)

from __future__ import annotations

import math

import numpy as np
import pytest
from support.rewriting import run, valued

from tpopt.ir import DType
from tpopt.ir.interpret import interpret
from tpopt.passes.algebra.casts import lossless
from tpopt.passes.algebra.constants import evaluate, round_to
from tpopt.passes.simplify import RULES, Simplify
from tpopt.rewrite import Trace

HEADER = """program p(x: f32[8], y: f32[8], n: i32[8], h: f16[8], b: bool[8], q: bool[8], z: c64[8], m: u8[8])
r: {dtype}[8] = L[i:8] {body}
return r"""


def simplified(body: str, dtype: str = "f32") -> str:
    outcome = run(Simplify(), HEADER.format(dtype=dtype, body=body))
    return outcome.stages.partition("L[i:8] ")[2]


def refusals(body: str, dtype: str = "f32") -> list[str]:
    outcome = run(Simplify(), HEADER.format(dtype=dtype, body=body))
    assert outcome.after is outcome.before
    return outcome.refused


@pytest.mark.parametrize(
    ("before", "after", "dtype"),
    [
        # casts
        ("f16(f32(h[i]))", "h[i]", "f16"),
        ("f16(f64(x[i]))", "f16(x[i])", "f16"),
        ("f32(i64(n[i]))", "f32(n[i])", "f32"),
        ("i8(i64(n[i]))", "i8(n[i])", "i8"),
        ("f32(f64(m[i]))", "f32(m[i])", "f32"),
        ("bool(i64(b[i]))", "b[i]", "bool"),
        # identities
        ("x[i] * 1.0", "x[i]", "f32"),
        ("1.0 * (x[i] * y[i])", "x[i] * y[i]", "f32"),
        ("n[i] + 0", "n[i]", "i32"),
        ("x[i] + -0.0", "x[i]", "f32"),
        ("abs(x[i]) + 0.0", "abs(x[i])", "f32"),
        ("f32(n[i]) + 0.0", "f32(n[i])", "f32"),
        ("x[i] - 0.0", "x[i]", "f32"),
        ("x[i] / 8.0", "x[i] * 0.125", "f32"),
        ("x[i] / 1.0", "x[i]", "f32"),
        ("--x[i]", "x[i]", "f32"),
        ("not(not(b[i]))", "b[i]", "bool"),
        ("conj(conj(z[i]))", "z[i]", "c64"),
        ("x[i] + -y[i]", "x[i] - y[i]", "f32"),
        ("-x[i] + y[i]", "y[i] - x[i]", "f32"),
        ("x[i] - -y[i]", "x[i] + y[i]", "f32"),
        ("-x[i] * -y[i]", "x[i] * y[i]", "f32"),
        ("abs(-x[i])", "abs(x[i])", "f32"),
        ("max(x[i], x[i])", "x[i]", "f32"),
        ("or(b[i], q[i], b[i])", "or(b[i], q[i])", "bool"),
        ("real(complex(x[i], y[i]))", "x[i]", "f32"),
        ("imag(complex(x[i], y[i]))", "y[i]", "f32"),
        ("pow(x[i], 3.0)", "x[i] * x[i] * x[i]", "f32"),
        ("pow(x[i], 1.0)", "x[i]", "f32"),
        # literals
        ("x[i] * (2.0 + 3.0)", "x[i] * 5.0", "f32"),
        ("x[i] + sqrt(2.0)", "x[i] + 1.4142135381698608", "f32"),
        ("n[i] + i32(3.7:f32)", "n[i] + 3", "i32"),
        ("x[i] + f32(@(3))", "x[i] + 3.0", "f32"),
        # guards and conditions
        ("select(0 <= i < 9, x[i], 0.0)", "x[i]", "f32"),
        ("select(8 <= i < 9, x[i], y[i])", "y[i]", "f32"),
        ("select(2 <= i < 9, select(0 <= i < 5, x[i], 0.0), 0.0)", "select(2 <= i < 5, x[i], 0.0)", "f32"),
        ("select(0 <= i < 3 & 3 <= i < 8, x[i], y[i])", "y[i]", "f32"),
        ("select(2 <= i < 5, select(1 <= i < 6, x[i], 1.0), 0.0)", "select(2 <= i < 5, x[i], 0.0)", "f32"),
        ("select(2 <= i < 5, x[i], select(2 <= i < 5, 1.0, 0.0))", "select(2 <= i < 5, x[i], 0.0)", "f32"),
        ("where(b[i], x[i], x[i])", "x[i]", "f32"),
        ("where(not(b[i]), x[i], y[i])", "where(b[i], y[i], x[i])", "f32"),
        ("where(@(i) < 3, x[i], y[i])", "select(0 <= i < 3, x[i], y[i])", "f32"),
        ("where(@(i) != 3, x[i], y[i])", "select(3 <= i < 4, y[i], x[i])", "f32"),
        ("where(not(@(i) >= 3), x[i], y[i])", "select(3 <= i < 8, y[i], x[i])", "f32"),
        ("where(and(@(i) > 2, @(3*i) <= 9), x[i], y[i])", "select(0 <= 3*i < 10 & 3 <= i < 8, x[i], y[i])", "f32"),
        ("where(@(i) < 8, x[i], y[i])", "x[i]", "f32"),
        ("and(b[i], @(i) == 9)", "and(b[i], false)", "bool"),
    ],
)  # fmt: skip
def test_simplifies(before: str, after: str, dtype: str):
    assert simplified(before, dtype) == after


@pytest.mark.parametrize(
    ("body", "dtype", "reason"),
    [
        ("f32(f16(x[i]))", "f32", "f16 does not hold every f32"),
        ("i8(f32(m[i]))", "i8", "u8 to i8 wraps, f32 to i8 does not"),
        ("z[i] * 1.0", "c64", "a complex product by 1 is not exact at infinity"),
        ("x[i] + 0.0", "f32", "x + 0.0 turns -0.0 into 0.0"),
        ("x[i] - -0.0", "f32", "x - -0.0 turns -0.0 into 0.0"),
        ("h[i] / 65536.0", "f16", "1 / 65536.0 is no normal f16"),
        ("x[i] + exp(2.0)", "f32", "exp of f32 literals is left to run time"),
        ("n[i] + i32(1e10:f32)", "i32", "10000000000.0 is no i32"),
        ("pow(z[i], 2.0)", "c64", "a complex power is computed by logarithms"),
        ("select(2 <= i < 9, select(0 <= n[n[i]{0:8}]{0:8} < 4, x[i], 0.0), 0.0)", "f32", "the inner guard looks values up where the outer one holds"),
    ],
)  # fmt: skip
def test_refuses(body: str, dtype: str, reason: str):
    assert reason in refusals(body, dtype)


@pytest.mark.parametrize(
    "body", ["x[i] * 2.0", "x[i] / 3.0", "max(x[i], y[i])", "where(b[i], x[i], y[i])", "select(2 <= i < 5, x[i], 0.0)"]
)
def test_leaves_alone(body: str):
    assert refusals(body) == []


def test_a_condition_that_data_decides_stays():
    assert refusals("where(and(@(i) < 3, b[i]), x[i], y[i])") == []


def test_signs_of_zero_and_nan_survive():
    """The laws for floats hold for every special value: each body against the same body, simplified, in f32."""
    special = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-42], np.float32)
    bodies = [
        "x[i]*1.0",
        "x[i]-0.0",
        "x[i]+-0.0",
        "abs(x[i])+0.0",
        "x[i]/4.0",
        "--x[i]",
        "x[i]+-y[i]",
        "x[i]--y[i]",
        "-x[i]*-y[i]",
        "max(x[i],x[i])",
    ]
    for body in bodies:
        before = valued(f"program p(x: f32[8], y: f32[8])\nr: f32[8] = L[i:8] {body}\nreturn r")
        after = Simplify().run(before, Trace())
        assert after is not before
        for turn in range(8):
            inputs = [special, np.roll(special, turn)]
            old, new = (interpret(p, inputs, rounding=True)[0] for p in (before, after))
            np.testing.assert_array_equal(old, new, err_msg=body)
            np.testing.assert_array_equal(
                np.signbit(old[~np.isnan(old)]), np.signbit(new[~np.isnan(new)]), err_msg=body
            )


def test_symbolic_bounds_decide():
    text = "program p(x: f32[s])\nsymbol s in [2, 9]\nr: f32[s] = L[i:s] select(0 <= i < s+1, x[i], 0.0)\nreturn r"
    assert run(Simplify(), text).stages == "r: f32[s] = L[i:s] x[i]"


def test_a_causal_mask_becomes_a_guard():
    text = """program p(x: f32[5,7])
        r: f32[5,7] = L[i:5,j:7] where(@(j) <= @(i), x[i,j], -inf)
        return r"""
    assert run(Simplify(), text).stages == "r: f32[5,7] = L[i:5,j:7] select(-4 <= -i+j < 1, x[i,j], -inf)"


def test_states_bound_the_rewrites():
    outcome = run(Simplify(states=0), HEADER.format(dtype="f32", body="x[i] * 1.0"))
    assert outcome.after is outcome.before
    assert outcome.refused == ["the budget of 0 rewrites is spent"]


@pytest.mark.parametrize(("value", "kind", "expected"), [
    (1.0 + 2**-9, DType.BF16, 1.0),
    (1.0 + 3 * 2**-9, DType.BF16, 1.0 + 2**-7),
    (1e300, DType.F32, math.inf),
    (0.1, DType.F16, 0.0999755859375),
])  # fmt: skip
def test_rounding_is_to_nearest_even(value: float, kind: DType, expected: float):
    assert round_to(value, kind) == expected


def test_integers_wrap_and_have_no_division_by_zero():
    assert evaluate("add", [127, 1], DType.I8) == -128
    assert evaluate("floordiv", [-7, 2], DType.I32) == -4
    assert evaluate("floordiv", [7, 0], DType.I32) is None
    assert evaluate("max", [0.0, -0.0], DType.F32) is None


def test_what_each_type_holds():
    held = {(a, b) for a in DType for b in DType if lossless(a, b)}
    assert {str(b) for a, b in held if a is DType.BF16} == {"bf16", "f32", "f64", "c64", "c128"}
    assert {str(b) for a, b in held if a is DType.I32} == {"i32", "i64", "f64", "c128"}
    assert {str(b) for a, b in held if a is DType.U8} == {
        "u8",
        "i16",
        "i32",
        "i64",
        "f16",
        "bf16",
        "f32",
        "f64",
        "c64",
        "c128",
    }
    assert {str(b) for a, b in held if a is DType.F16} == {"f16", "f32", "f64", "c64", "c128"}


def test_every_law_is_named_once():
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
