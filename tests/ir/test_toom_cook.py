"""The matrices of Toom-Cook correlation are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tpopt.errors import InvalidProgram
from tpopt.ir import DType, Structure, Tensor
from tpopt.ir.exact import interpret_exact, random_field_inputs
from tpopt.ir.materialize import materialize
from tpopt.ir.parse import parse_program
from tpopt.ir.toom_cook import MOST_PRODUCTS, amplification, matrix

SIZES = [(m, r) for m in range(1, MOST_PRODUCTS + 1) for r in range(1, MOST_PRODUCTS + 1) if m + r - 1 <= MOST_PRODUCTS]


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_they_make_every_sliding_sum(m: int, r: int):
    sums, taps, data = (matrix(part, m, r) for part in ("sums", "taps", "data"))
    points = range(m + r - 1)
    for i in range(m):
        for k in range(r):
            row = [sum((sums[i][j] * taps[j][k] * data[j][p] for j in points), Fraction(0)) for p in points]
            assert row == [Fraction(p == i + k) for p in points]


def test_four_results_of_three_taps_are_those_of_the_literature():
    assert [[int(v) for v in row] for row in matrix("data", 4, 3)] == [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]


@pytest.mark.parametrize(("m", "r", "growth"), [(2, 3, 1.29), (4, 3, 3.28), (6, 3, 4.54)])
def test_larger_tiles_amplify_errors(m: int, r: int, growth: float):
    assert amplification(m, r) == pytest.approx(growth, rel=0.01)


def test_the_measured_error_is_what_is_predicted():
    random = np.random.default_rng(0)
    m, r, channels = 4, 3, 64
    sums, taps, data = (np.array(matrix(p, m, r), dtype=np.float64) for p in ("sums", "taps", "data"))
    d = random.standard_normal((400, channels, m + r - 1)).astype(np.float32)
    g = random.standard_normal((channels, r)).astype(np.float32)
    expected = np.stack([(d[:, :, i : i + r].astype(float) * g).sum((1, 2)) for i in range(m)], 1)
    moved = np.einsum("jl,ncl->ncj", data.astype(np.float32), d)
    products = np.einsum("ncj,jc->nj", moved, (taps @ g.T.astype(float)).astype(np.float32))
    tiled = products @ sums.T.astype(np.float32)
    plain = np.stack([np.einsum("nck,ck->n", d[:, :, i : i + r], g) for i in range(m)], 1)
    errors = [np.linalg.norm(v - expected) for v in (tiled, plain)]
    assert 0.3 < errors[0] / errors[1] / amplification(m, r) < 3.0


def tensor(shape: tuple[int, ...], *parameters: int | str) -> Tensor:
    return Tensor("b", shape, DType.F32, structure=Structure("toom_cook", parameters))


def test_a_structure_gives_the_values():
    assert materialize(tensor((4, 3), "taps", 2, 3)).tolist() == [
        [-1, 0, 0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0, 0, 1],
    ]


@pytest.mark.parametrize(
    ("shape", "parameters", "reason"),
    [
        ((4, 4), ("taps", 2, 3), r"shape \(4, 3\)"),
        ((4, 4), ("other", 2, 3), "expected a part"),
        ((20, 20), ("data", 18, 3), "up to 10"),
        ((4, 4), (2, 3, "data"), "integers"),
    ],
)
def test_another_structure_is_refused(shape: tuple[int, ...], parameters: tuple, reason: str):
    with pytest.raises(InvalidProgram, match=reason):
        materialize(tensor(shape, *parameters))


def test_thirds_are_exact_in_the_field():
    program = parse_program(
        'program p(x: f32[3])\nweight t: f32[6,3] structure toom_cook("taps", 4, 3)\n'
        "y: f32[6] = L[a:6] 24.0 * sum[k:3]{ t[a,k] * x[k] }\nreturn y"
    )
    whole = parse_program(
        "program p(x: f32[3])\ny: f32[6] = L[a:6] select(3 <= a < 4, x[0] + 2.0 * x[1] + 4.0 * x[2], 0.0)\nreturn y"
    )
    inputs = random_field_inputs(program, 0)
    found, expected = (interpret_exact(p, inputs, seed=0)[0] for p in (program, whole))
    assert np.array_equal(np.asarray(found)[3], np.asarray(expected)[3])
