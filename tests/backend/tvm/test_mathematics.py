"""Vector functions against float64, in units in the last place over a sweep of all floats, and at special values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.generated import run

FUNCTIONS = {"exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "erf": torch.erf, "sigmoid": torch.sigmoid}
SPECIAL = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, -1e-45, 88.73, -104.0, 1.0, -1.0])


def sweep(step: int) -> torch.Tensor:
    """Every ``step``-th of all floats, a whole number of vectors of them."""
    found = torch.arange(-(2**31), 2**31 - 1, step, dtype=torch.int64).to(torch.int32).view(torch.float32)
    return found[: len(found) // 16 * 16].clone()


def largest_error(name: str, x: torch.Tensor) -> float:
    """In units in the last place of the rounded result, over finite results; the others must be the same."""
    (y,) = run(f"y: f32[{len(x)}] = L[i:{len(x)}] {name}(x[i])", x=x)
    exact = FUNCTIONS[name](x.double())
    rounded = exact.float()
    assert torch.equal(torch.isnan(y), torch.isnan(rounded))
    assert torch.equal(torch.isinf(y), torch.isinf(rounded))
    finite = torch.isfinite(rounded)
    unit = torch.from_numpy(np.spacing(rounded[finite].abs().numpy())).double()
    return float(((y[finite].double() - exact[finite]).abs() / unit).max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_units_in_the_last_place_at_most(name: str):
    assert largest_error(name, sweep(9973)) <= 2.0


@pytest.mark.acceptance
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_units_in_the_last_place_at_most_on_a_dense_sweep(name: str):
    assert largest_error(name, sweep(61)) <= 2.0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_torch(name: str):
    (y,) = run(f"y: f32[11] = L[i:11] {name}(x[i])", x=SPECIAL)
    torch.testing.assert_close(y, FUNCTIONS[name](SPECIAL), rtol=3e-7, atol=0, equal_nan=True)


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
