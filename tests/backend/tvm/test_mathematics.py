"""Vector functions against float64, in units in the last place over sweeps of all floats, and at special values."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable

import pytest
import torch
from support.generated import run
from support.ulp import BLOCK, Function, floats, kernel, neighbours, worst

NAMES = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc sigmoid "
    "rsqrt"
).split()
FUNCTIONS: dict[str, Function] = {name: getattr(torch, name) for name in NAMES}
BRANCHES = (1e-45, 1.2e-38, 2.0**-24, 2.0**-10, 0.25, 0.35, 0.5, 0.56, 0.75, 1.0, 1.5, 1.5707964, 2.0, 3.1415927)
ENDS = (4.0, 9.01, 10.05, 10.6, 17.3, 20.0, 60.0, 88.7, 89.4, 103.97, 127.5, 149.5, 1e6, 2.0**40, 1e30, 3.4e38)
INFINITY, NAN = float("inf"), float("nan")
SIZES = (0.0, 1e-45, 1e-38, 0.5, 0.999, 1.0, 2.0, 2.5, 3.0, 88.73, 104.0, 150.0, 16777217.0, 3.4e38, INFINITY)
SPECIAL = torch.tensor([NAN, *SIZES, *(-v for v in SIZES)])
REPEATED = SPECIAL.repeat(BLOCK // len(SPECIAL) + 1)[:BLOCK]
BINARY: dict[str, Function] = {"pow": torch.pow, "atan2": torch.atan2, "hypot": torch.hypot}
BOUND = 2.0
BOUNDS = {"pow": 4.0}
WIDTHS = (64, 32)
"""Bytes of the vectors: AVX-512, which has instructions of its own here, and the arithmetic for all other widths."""


def largest_error(name: str, vector_bytes: int, blocks: Iterable[torch.Tensor]) -> float:
    """Over all blocks; what ``pytest -s`` shows."""
    function = kernel(f"{name}(x[i])", vector_bytes)
    largest, at = 0.0, 0.0
    for x in blocks:
        error, place = worst(function(x), FUNCTIONS[name](x.double()))
        if error > largest:
            largest, at = error, float(x[place])
    sys.stdout.write(f"\n{name}: {largest:.2f} ulp at {at!r}\n")
    return largest


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_two_units_in_the_last_place_at_most(name: str, vector_bytes: int):
    blocks = itertools.chain(floats(1009), (neighbours(*BRANCHES), neighbours(*ENDS), REPEATED))
    assert largest_error(name, vector_bytes, blocks) <= BOUND


@pytest.mark.acceptance
@pytest.mark.parametrize("name", NAMES)
def test_two_units_in_the_last_place_at_most_for_every_float(name: str):
    assert largest_error(name, WIDTHS[0], floats(1)) <= BOUND


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arguments(name: str, vector_bytes: int):
    generator = torch.Generator().manual_seed(7)
    function = kernel(f"{name}(x[i], z[i])", vector_bytes)
    for spread in (1.0, 3.0, 9.0, 20.0, 60.0, 127.0):
        x, z = (
            torch.randn(BLOCK, generator=generator)
            * torch.exp2((torch.rand(BLOCK, generator=generator) * 2 - 1) * spread)
            for _ in range(2)
        )
        if name == "pow":
            x = torch.where(torch.rand(BLOCK, generator=generator) < 0.9, x.abs(), x)
            z = torch.where(x < 0, z.round(), z / x.log2().abs() if spread > 20 else z)
        assert worst(function(x, z), BINARY[name](x.double(), z.double()))[0] <= BOUNDS.get(name, BOUND)


@pytest.mark.parametrize("name", BINARY)
def test_pairs_of_special_values_are_exact_in_kind_and_sign(name: str):
    x, z = (torch.stack(v) for v in zip(*itertools.product(SPECIAL, SPECIAL), strict=True))
    y = kernel(f"{name}(x[i], z[i])", size=len(x))(x, z)
    assert worst(y, BINARY[name](x.double(), z.double()))[0] <= BOUNDS.get(name, BOUND)


@pytest.mark.parametrize("term", ["max(x[i], z[i])", "min(x[i], z[i])"])
def test_nan_wins_over_any_number(term: str):
    x, z = torch.tensor([1.0, float("nan"), 2.0]), torch.tensor([float("nan"), 5.0, 3.0])
    (y,) = run(f"y: f32[3] = L[i:3] {term}", x=x, z=z)
    assert torch.isnan(y).tolist() == [True, True, False]


def test_a_nan_is_not_equal_to_itself():
    (y,) = run("y: bool[2] = L[i:2] x[i] != x[i]", x=torch.tensor([float("nan"), 1.0]))
    assert y.tolist() == [True, False]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("floordiv(x[i], z[i])", [-4, 3, -4, 3]),
        ("mod(x[i], z[i])", [1, 1, -1, -1]),
        ("truncdiv(x[i], z[i])", [-3, 3, -3, 3]),
        ("fmod(x[i], z[i])", [-1, 1, 1, -1]),
    ],
)
def test_integer_division_rounds_as_its_name_says(term: str, expected: list[int]):
    x, z = torch.tensor([-7, 7, 7, -7]), torch.tensor([2, 2, -2, -2])
    (y,) = run(f"y: i64[4] = L[i:4] {term}", x=x, z=z)
    assert y.tolist() == expected
