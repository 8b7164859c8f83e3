"""Derivations over the field: right ones agree in every element, and each has wrong twins that do not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tpopt.errors import UnsupportedInput
from tpopt.ir import Opaque, Program, tensor
from tpopt.ir.dtypes import DType
from tpopt.ir.exact import PRIME, interpret_exact, lookup_bounds, random_field_inputs
from tpopt.ir.exact.numbers import INFINITE, NEGATIVE_INFINITE, UNDEFINED
from tpopt.ir.parse import parse_program


def program(inputs: str, *stages: str, weights: str = "") -> Program:
    last = stages[-1].split(":")[0]
    return parse_program(f"program p({inputs})\n{weights}\n" + "\n".join(stages) + f"\nreturn {last}")


def value(p: Program, seed: int = 0, **options: int) -> list[object]:
    return interpret_exact(p, random_field_inputs(p, seed, **options), seed=seed)[0].tolist()


CONV = "x: f32[2,3,7], w: f32[4,3,3]"
DIRECT = "y: f32[2,4,7] = L[n:2,o:4,i:7] sum[c:3,r:3]{ select(1 <= i+r < 8, x[n,c,i+r-1], 0.0) * w[o,c,r] }"
COLUMNS = "u: f32[2,9,7] = L[n:2,k:9,i:7] select(1 <= i+k%3 < 8, x[n,k//3,i+k%3-1], 0.0)"
GEMM = "y: f32[2,4,7] = L[n:2,o:4,i:7] sum[k:9]{ u[n,k,i] * w[o,k//3,k%3] }"
EQUAL = {
    "distributivity": (
        program("a: f32[5], b: f32[5], w: f32[5]", "y: f32[] = L[] sum[k:5]{ (a[k] + b[k]) * w[k] }"),
        program("a: f32[5], b: f32[5], w: f32[5]", "y: f32[] = L[] sum[k:5]{ a[k] * w[k] } + sum[l:5]{ w[l] * b[l] }"),
    ),
    "reassociated products": (
        program("x: f32[2,3], w: f32[3,5], v: f32[5,4]", "t: f32[2,5] = L[i:2,j:5] sum[k:3]{ x[i,k] * w[k,j] }",
                "y: f32[2,4] = L[i:2,j:4] sum[k:5]{ t[i,k] * v[k,j] }"),
        program("x: f32[2,3], w: f32[3,5], v: f32[5,4]", "t: f32[3,4] = L[i:3,j:4] sum[k:5]{ w[i,k] * v[k,j] }",
                "y: f32[2,4] = L[i:2,j:4] sum[k:3]{ x[i,k] * t[k,j] }"),
    ),
    "convolution by columns": (program(CONV, DIRECT), program(CONV, COLUMNS, GEMM)),
    "convolution by phases": (
        program("x: f32[3,5], w: f32[3,4]", "y: f32[9] = L[i:9] sum[c:3,r:4]{ "
                "select(0 <= (i-r+1)%2 < 1 & 0 <= (i-r+1)//2 < 5, x[c,(i-r+1)//2], 0.0) * w[c,r] }"),
        program("x: f32[3,5], w: f32[3,4]", "y: f32[9] = L[i:9] sum[c:3,t:2]{ "
                "select(0 <= (i+1)//2-t < 5, x[c,(i+1)//2-t], 0.0) * w[c,(i+1)%2+2*t] }"),
    ),
    "a scale folded into a weight": (
        program("x: f32[3], w: f32[4,3], s: f32[4]", "y: f32[4] = L[i:4] s[i] * sum[k:3]{ w[i,k] * x[k] } * 0.1"),
        program("x: f32[3], w: f32[4,3], s: f32[4]", "v: f32[4,3] = L[i:4,k:3] (0.1 * s[i]) * w[i,k]",
                "y: f32[4] = L[i:4] sum[k:3]{ v[i,k] * x[k] }"),
    ),
    "a quotient of sums": (
        program("x: f32[4], w: f32[4]", "y: f32[] = L[] sum[k:4]{ x[k] / w[k] }"),
        program("x: f32[4], w: f32[4]", "y: f32[] = L[] sum[k:4]{ reciprocal(w[k]) * x[k] }"),
    ),
    "the shift of a softmax": (
        program("x: f32[3,4]", "y: f32[3,4] = L[i:3,j:4] exp(x[i,j]) / sum[k:4]{ exp(x[i,k]) }"),
        program("x: f32[3,4]", "m: f32[3] = L[i:3] max[k:4]{ x[i,k] }",
                "y: f32[3,4] = L[i:3,j:4] exp(x[i,j] - m[i]) / sum[k:4]{ exp(x[i,k] - m[i]) }"),
    ),
    "a softmax merged from blocks": (
        program("x: f32[6]", "y: f32[] = L[] logsumexp[k:6].1{ x[k], 1.0:f32 }"),
        program("x: f32[6]",
                "m: f32[2], s: f32[2] = L[b:2] "
                "logsumexp[k:3].0{ x[3*b+k], 1.0:f32 }, logsumexp[k:3].1{ x[3*b+k], 1.0:f32 }",
                "y: f32[] = L[] logsumexp[b:2].1{ m[b], s[b] }"),
    ),
    "a mask instead of minus infinity": (
        program("x: f32[4,4]", "y: f32[4] = L[i:4] sum[j:4]{ exp(select(0 <= i-j < 4, x[i,j], -inf)) }"),
        program("x: f32[4,4]", "y: f32[4] = L[i:4] sum[j:4]{ select(0 <= i-j < 4, exp(x[i,j]), 0.0) }"),
    ),
    "padding through a function that keeps 0": (
        program("x: f32[4]", "y: f32[6] = L[i:6] tanh(select(1 <= i < 5, x[i-1], 0.0))"),
        program("x: f32[4]", "y: f32[6] = L[i:6] select(1 <= i < 5, tanh(x[i-1]), 0.0)"),
    ),
    "a maximum of maxima": (
        program("x: f32[6]", "y: f32[] = L[] max[k:6]{ x[k] }"),
        program("x: f32[6]", "t: f32[3] = L[i:3] max(x[2*i+1], x[2*i])", "y: f32[] = L[] max[k:3]{ t[k] }"),
    ),
    "a variance by welford": (
        program("x: f32[6]", "m: f32[] = L[] sum[k:6]{ x[k] } / 6.0",
                "y: f32[] = L[] sum[k:6]{ (x[k] - m[]) * (x[k] - m[]) }"),
        program("x: f32[6]", "y: f32[] = L[] welford[k:6].1{ x[k], 0.0:f32, 1.0:f32 }"),
    ),
    "powers": (
        program("x: f32[4]", "y: f32[4] = L[i:4] pow(x[i], 3.0) * pow(x[i], -1.0) + pow(x[i], 0.5)"),
        program("x: f32[4]", "y: f32[4] = L[i:4] x[i] * x[i] + sqrt(x[i])"),
    ),
    "the same transform twice": (
        program("x: c64[12]", "t: c64[12] = L[i:12] sum[k:12]{ F[i,k] * x[k] }",
                "y: c64[12] = L[i:12] sum[k:12]{ F[i,k] * t[k] }",
                weights="weight F: c64[12,12] structure dft(12,12,12,-1)"),
        program("x: c64[12]", "y: c64[12] = L[i:12] x[(12-i)%12] * complex(12.0:f32, 0.0:f32)"),
    ),
    "a transform by radix three and four": (
        program("x: c64[12]", "y: c64[12] = L[i:12] sum[k:12]{ F[i,k] * x[k] }",
                weights="weight F: c64[12,12] structure dft(12,12,12,-1)"),
        program("x: c64[12]", "t: c64[3,4] = L[a:3,b:4] sum[k:4]{ Q[b,k] * x[3*k+a] } * F[a,b]",
                "y: c64[12] = L[i:12] sum[a:3]{ T[a,i//4] * t[a,i%4] }",
                weights="weight F: c64[3,4] structure dft(12,3,4,-1)\nweight Q: c64[4,4] structure dft(4,4,4,-1)\n"
                "weight T: c64[3,3] structure dft(3,3,3,-1)"),
    ),
    "conjugate symmetry of a real transform": (
        program("x: f32[8]", "y: f32[8] = L[i:8] imag(sum[k:8]{ F[i,k] * c64(x[k]) })",
                weights="weight F: c64[8,8] structure dft(8,8,8,-1)"),
        program("x: f32[8]", "y: f32[8] = L[i:8] imag(conj(sum[k:8]{ F[(8-i)%8,k] * c64(x[k]) }))",
                weights="weight F: c64[8,8] structure dft(8,8,8,-1)"),
    ),
}  # fmt: skip
WRONG = {
    "offset": (DIRECT, DIRECT.replace("1 <= i+r < 8", "2 <= i+r < 9").replace("i+r-1]", "i+r-2]")),
    "dropped guard": (DIRECT, DIRECT.replace("select(1 <= i+r < 8, x[n,c,i+r-1], 0.0)", "x[n,c,(i+r+6)%7]")),
    "swapped axes": (DIRECT, DIRECT.replace("w[o,c,r]", "w[o,r,c]")),
    "wrong weight": (DIRECT, DIRECT.replace("w[o,c,r]", "w[3-o,c,r]")),
    "one tap short": (DIRECT, DIRECT.replace("r:3", "r:2")),
    "another literal": ("y: f32[7] = L[i:7] x[0,0,i] * 0.1", "y: f32[7] = L[i:7] x[0,0,i] * 0.10000000149011612"),
    "another function": ("y: f32[7] = L[i:7] tanh(x[0,0,i])", "y: f32[7] = L[i:7] erf(x[0,0,i])"),
    "an order of arguments": ("y: f32[7] = L[i:7] atan2(x[0,0,i], x[0,1,i])",
                              "y: f32[7] = L[i:7] atan2(x[0,1,i], x[0,0,i])"),
    "an argument of exp": ("y: f32[7] = L[i:7] exp(x[0,0,i])", "y: f32[7] = L[i:7] exp(x[0,0,i] * 2.0)"),
    "a rounding left out": ("y: f32[7] = L[i:7] floor(x[0,0,i])", "y: f32[7] = L[i:7] x[0,0,i]"),
    "a maximum shifted": ("y: f32[7] = L[i:7] max(x[0,0,i], 0.0)", "y: f32[7] = L[i:7] max(x[0,0,i], 1.0)"),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("pair", EQUAL.values(), ids=EQUAL.keys())
def test_right_derivations_agree(pair: tuple[Program, Program], seed: int):
    assert value(pair[0], seed) == value(pair[1], seed)


@pytest.mark.parametrize("pair", WRONG.values(), ids=WRONG.keys())
def test_wrong_derivations_do_not(pair: tuple[str, str]):
    right, wrong = (program(CONV, stage) for stage in pair)
    assert value(right) != value(wrong)


def test_laws_of_ordered_integers_hold_on_small_inputs_only():
    a = program("x: f32[8], z: f32[8]", "y: f32[8] = L[i:8] max(x[i], z[i]) + x[i]")
    b = program("x: f32[8], z: f32[8]", "y: f32[8] = L[i:8] max(x[i] + x[i], z[i] + x[i])")
    assert value(a, small=100) == value(b, small=100)
    assert value(a) != value(b)


def test_small_integers_are_ordered_and_rounded_as_usual():
    p = program("x: f32[4]", "y: f32[4] = L[i:4] floordiv(max(x[i], -3.0), 2.0) + sign(x[i]) * abs(x[i])")
    (y,) = interpret_exact(p, [np.array([-7, -1, 0, 5])])
    assert [int(v) - PRIME if v > PRIME // 2 else int(v) for v in y] == [-9, -2, 0, 7]


def test_infinities_and_nan_follow_the_rules_of_floats():
    text = "y: f32[3] = L[i:3] select(0 <= i < 1, 1.0 / x[i], select(0 <= i < 2, -1.0 / x[i], x[i] / x[i]))"
    assert value(program("x: f32[3]", text), small=0) == [INFINITE, NEGATIVE_INFINITE, UNDEFINED]


def test_comparisons_with_nan_are_false_but_for_unequal():
    stages = [f"b{n}: f32[1] = L[i:1] f32(x[i] / x[i] {op} x[i])" for n, op in enumerate(["<", ">=", "==", "!="])]
    p = program("x: f32[1]", *stages)
    assert interpret_exact(p, [np.array([0])], keep=["b0", "b1", "b2"])[1:] == ([0], [0], [0])
    assert interpret_exact(p, [np.array([0])])[0].tolist() == [1]


def test_infinities_pass_through_sums_of_products():
    product = "y: f32[2] = L[i:2] sum[k:3]{ v[k] * w[k,i] }"
    p = program("x: f32[3], w: f32[3,2]", "v: f32[3] = L[i:3] 1.0 / x[i]", product)
    found = interpret_exact(p, [np.array([1, 0, 1]), np.array([[1, 1], [-5, 0], [1, 1]])])[0]
    assert found.tolist() == [NEGATIVE_INFINITE, UNDEFINED]


def test_a_logsumexp_of_nothing_but_minus_infinity_counts():
    p = program("x: f32[3]", "y: f32[] = L[] logsumexp[k:3].1{ select(3 <= k < 4, x[0], -inf), 1.0:f32 }")
    assert value(p) == 3


def test_integers_are_integers_and_lookups_stay_within_their_bounds():
    p = program("t: i64[4], w: i32[4]", "u: i64[4] = L[i:4] t[i]", "y: i32[4] = L[i:4] w[u[i]{1:3}] * 1000000000")
    assert lookup_bounds(p, {}) == {"t": (1, 3), "u": (1, 3)}
    (y,) = interpret_exact(p, {"t": np.array([1, 2, 7, -1]), "w": np.array([5, 6, 7, 8])})
    assert y.tolist() == [v * 10**9 % 2**32 - (2**32 if v * 10**9 % 2**32 >= 2**31 else 0) for v in (6, 7, 6, 6)]


def test_structured_weights_have_their_structure():
    draw = "weight w: f32[6,6] structure {}"
    shapes = {"symmetric": "w[i,j] - w[j,i]", "diagonal": "w[i,j] * f32(@((6+i-j)%6))",
              "circulant": "w[i,j] - w[(i+1)%6,(j+1)%6]",
              "kron((2,3),(3,2))": "w[0,0] * w[4,3] - w[1,1] * w[3,2]"}  # fmt: skip
    for structure, zero in shapes.items():
        found = value(
            program("x: f32[6,6]", f"y: f32[6,6] = L[i:6,j:6] x[i,j] + {zero}", weights=draw.format(structure))
        )
        assert found == value(program("x: f32[6,6]", "y: f32[6,6] = L[i:6,j:6] x[i,j]")), structure


def test_weights_are_random_unless_their_values_are_asked_for():
    p = program("x: f32[2]", "y: f32[2] = L[i:2] x[i] * w[i]", weights="weight w: f32[2]")
    p = Program(p.name, p.inputs, p.weights, p.stages, p.outputs, constants={"w": np.array([2.0, -1.0])})
    (drawn,), (kept,) = interpret_exact(p, [np.array([3, 4])]), interpret_exact(p, [np.array([3, 4])], actual=["w"])
    assert kept.tolist() == [6, PRIME - 4]
    assert drawn.tolist() != kept.tolist()


def test_opaque_calls_are_functions_of_their_arguments():
    x, z = tensor("x", (3,), DType.F32), tensor("z", (3,), DType.F32)
    outs = [tensor(n, (3,), DType.F32) for n in "ab"]
    calls = [Opaque((o,), "aten.mystery.default", (v, 2)) for o, v in zip(outs, (x, z), strict=True)]
    p = Program("p", (x, z), (), tuple(calls), tuple(outs))
    same, other = (interpret_exact(p, [np.arange(3), np.arange(3) + n]) for n in (0, 1))
    assert (same[0].tolist() == same[1].tolist(), other[0].tolist() == other[1].tolist()) == (True, False)


def test_complex_inputs_are_pairs():
    p = program("x: c64[2]", "y: c64[2] = L[i:2] x[i] * x[i]")
    assert interpret_exact(p, [np.array([[1, 2], [0, 1]])])[0].tolist() == [[PRIME - 3, 4], [PRIME - 1, 0]]
    with pytest.raises(UnsupportedInput, match="x: expected real and imaginary parts along a last axis of extent 2"):
        interpret_exact(p, [np.zeros(3, np.int64)])
    with pytest.raises(UnsupportedInput, match="x: expected residues as integers, got a float64 array"):
        interpret_exact(p, [np.zeros((2, 2))])


def test_a_transform_without_roots_is_refused():
    p = program(
        "x: c64[17]", "y: c64[17] = L[i:17] F[i,0] * x[i]", weights="weight F: c64[17,17] structure dft(17,17,17,-1)"
    )
    with pytest.raises(UnsupportedInput, match="no root of unity of order 17"):
        value(p)


def test_results_do_not_depend_on_the_process():
    code = (
        "from tpopt.ir.exact import *; from tpopt.ir.parse import parse_program\n"
        "p = parse_program('program p(x: f32[2]) weight w: f32[2] y: f32[2] = L[i:2] erf(x[i]) * exp(w[i]) return y')\n"
        "print(interpret_exact(p, random_field_inputs(p, 3), seed=3)[0].tolist())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": h}, capture_output=True, text=True, check=True
        )
        for h in "12"
    ]
    assert runs[0].stdout == runs[1].stdout
