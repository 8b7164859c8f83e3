"""What each label admits."""

from __future__ import annotations

import math

import pytest
import torch

from tpopt.ir.parse import parse_program
from tpopt.rewrite.numerics import Numerics
from tpopt.verify.tolerance import coarseness, floor_of, limit, norm, relative_error

TABLE = [
    (Numerics.EXACT, 1e-6, 0.0),
    (Numerics.ROUNDING, 1e-7, 2e-6),
    (Numerics.ROUNDING, 5e-6, 1e-5),
    (Numerics.REASSOCIATING, 1e-7, 2e-6),
    (Numerics.REASSOCIATING, 5e-6, 1e-5),
    (Numerics.CONDITIONING, 1e-7, 3e-5),
    (Numerics.CONDITIONING, 5e-5, 1e-4),
    (Numerics.APPROXIMATE, 1e-7, 3e-5),
]


@pytest.mark.parametrize(("label", "eager", "expected"), TABLE)
def test_limits(label: Numerics, eager: float, expected: float):
    assert limit(label, eager, 3e-5) == pytest.approx(expected)


def test_labels_are_ordered():
    assert sorted(Numerics) == list(Numerics)
    limits = [limit(label, 1e-7, 3e-5) for label in Numerics]
    assert limits == sorted(limits)


def test_adversarial_inputs_have_ten_times_as_much():
    assert limit(Numerics.REASSOCIATING, 0.0, 1e-5, adversarial=True) == pytest.approx(2e-5)


@pytest.mark.parametrize(("dtype", "coarse"), [("f32", 1.0), ("f16", 2.0**13), ("bf16", 2.0**16), ("f64", 2.0**-29)])
def test_coarser_types_have_proportional_limits(dtype: str, coarse: float):
    program = parse_program(f"program p(x: {dtype}[2])\ny: {dtype}[2] = L[i:2] x[i] * x[i]\nreturn y")
    assert coarseness(program) == coarse
    assert limit(Numerics.REASSOCIATING, 0.0, 1e-5, coarse) == pytest.approx(max(2e-6 * coarse, 1e-12))


def test_the_coarsest_type_on_the_way_counts():
    text = "program p(x: f32[2])\nh: bf16[2] = L[i:2] bf16(x[i])\ny: f32[2] = L[i:2] f32(h[i])\nreturn y"
    assert coarseness(parse_program(text)) == 2.0**16


def test_the_norm_does_not_overflow():
    assert norm(torch.tensor([3e200, 4e200], dtype=torch.float64)) == pytest.approx(5e200)


def test_errors_are_relative_to_the_reference_or_the_usual_scale():
    one, two = torch.tensor([1.0]).double(), torch.tensor([2.0]).double()
    assert relative_error(two, one) == 1.0
    assert relative_error(two, one, scale=10.0) == pytest.approx(0.1)
    assert relative_error(one * 0, one * 0) == 0.0
    assert relative_error(one, one * 0) == math.inf


def test_doubles_have_a_floor_of_their_own():
    assert floor_of(2.0**-29) == 1e-12
