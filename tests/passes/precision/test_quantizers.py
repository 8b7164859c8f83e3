"""Quantizers: exact codes, the errors that theory says, and rewrites that keep the function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tpopt.errors import UsageError
from tpopt.passes.precision.codebooks import Rotation, hadamard, lloyd_max, rotated
from tpopt.passes.precision.equalisation import (
    divide_outputs,
    equalising_scales,
    multiply_inputs,
    powers_of_two,
    smoothing_scales,
)
from tpopt.passes.precision.quantizers import (
    asymmetric,
    bias_correction,
    groupwise,
    in_groups,
    least_error,
    out_of_groups,
    symmetric,
)
from tpopt.passes.precision.ranges import Range, min_max, percentile


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def error(values: np.ndarray, quantized: np.ndarray) -> float:
    return float(np.square(values - quantized).mean())


def bounds(low: float, high: float) -> Range:
    return Range(np.array(low), np.array(high))


def test_a_symmetric_grid_has_as_many_levels_to_each_side():
    grid = symmetric(bounds(-3.5, 2.0), 4)
    assert (float(grid.scale), int(grid.zero), grid.lowest, grid.highest) == (0.5, 0, -7, 7)
    assert grid.codes([-9.0, -3.5, -0.25, 0.0, 0.75, 2.0, 9.0]).tolist() == [-7, -7, 0, 0, 2, 4, 7]
    assert grid.codes([np.inf, -np.inf]).tolist() == [7, -7]
    assert grid.values([-7, 0, 7]).tolist() == [-3.5, 0.0, 3.5]


def test_unsigned_values_get_all_256_levels():
    grid = asymmetric(bounds(0.0, 255.0), 8)
    assert (float(grid.scale), int(grid.zero)) == (1.0, 0)
    assert np.unique(grid.codes(np.linspace(0, 255, 1000))).tolist() == list(range(256))
    assert float(asymmetric(bounds(102.0, 510.0), 8).scale) == 2.0  # zero is always a level


def test_an_asymmetric_grid_has_zero_as_a_level():
    grid = asymmetric(bounds(-1.0, 2.0), 2)
    assert (float(grid.scale), int(grid.zero)) == (1.0, 1)
    assert grid.quantized(np.array([-1.0, 0.0, 0.4, 2.0, 5.0])).tolist() == [-1.0, 0.0, 0.0, 2.0, 2.0]


def test_the_type_of_the_values_is_kept_and_tensors_are_values():
    tensor = torch.tensor([0.1, -1.0, 0.5])
    found = symmetric(min_max(tensor), 8).quantized(tensor)
    assert found.dtype == np.float32
    assert np.abs(found - tensor.numpy()).max() <= 0.5 / 127


def test_the_error_of_four_bits_is_329_times_that_of_eight():
    values = gaussian(64, 4096)
    of = min_max(values)
    ratio = error(values, symmetric(of, 4).quantized(values)) / error(values, symmetric(of, 8).quantized(values))
    assert ratio == pytest.approx((127 / 7) ** 2, rel=0.1)


def test_each_channel_has_its_range():
    values = np.stack([gaussian(100), 50 * gaussian(100), np.zeros(100)])
    grid = symmetric(min_max(values, 0), 8)
    assert grid.scale.shape == (3, 1)
    assert grid.scale[:, 0].tolist() == [np.abs(values[0]).max() / 127, np.abs(values[1]).max() / 127, 1.0]
    assert not grid.quantized(values)[2].any()
    assert symmetric(min_max(values.reshape(3, 10, 10), (0, -1)), 8).scale.shape == (3, 1, 10)


def test_a_percentile_leaves_the_tails_out():
    values = np.arange(1001.0)
    found = percentile(values, 0.99)
    assert (found.low.item(), found.high.item()) == pytest.approx((10.0, 990.0))
    assert percentile(values, 1.0).high.item() == 1000.0


@pytest.mark.parametrize("grid", [symmetric, asymmetric])
def test_the_range_of_least_error_clips_no_more_than_pays(grid):
    values = np.concatenate([gaussian(4, 500), [[30.0]] * 4], axis=1)
    best = error(values, least_error(values, 4, grid, 0).quantized(values))
    for factor in np.linspace(0.1, 1.0, 19):
        of = Range(min_max(values, 0).low, min_max(values, 0).high * factor)
        assert best <= error(values, grid(of, 4).quantized(values)) * (1 + 1e-3)


def test_the_best_symmetric_grid_of_a_normal_distribution():
    values = gaussian(1, 100_000)
    assert error(values, least_error(values, 2).quantized(values)) == pytest.approx(0.1902, rel=0.01)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 100])
def test_groups_of_any_length_come_back(length: int):
    values = gaussian(3, length)
    parts = in_groups(values, 32)
    assert parts.shape == (3, -(-length // 32), 32)
    assert np.array_equal(out_of_groups(parts, values.shape), values)


def test_groups_have_grids_of_their_own():
    values = gaussian(2, 96) * np.repeat([1.0, 100.0, 0.0], 32)
    found = groupwise(values, 4, 32)
    assert error(values[:, :32], found[:, :32]) < 0.02
    assert error(values[:, :32], asymmetric(min_max(values), 4).quantized(values)[:, :32]) > 0.5
    assert not found[:, 64:].any()


@pytest.mark.parametrize(("bits", "want"), [(1, 0.363380), (2, 0.117482), (3, 0.034548), (4, 0.009501)])
def test_the_error_of_lloyd_max(bits: int, want: float):
    codebook = lloyd_max(bits)
    assert codebook.error == pytest.approx(want, abs=1e-5)
    x = (np.arange(200_000) + 0.5) / 200_000 * 16 - 8  # by integration, too
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    assert np.square(x - codebook.levels[codebook.codes(x)]) @ density * 16 / 200_000 == pytest.approx(want, abs=1e-5)


def test_codebooks_of_all_sizes_are_symmetric_and_approach_panter_and_dite():
    for bits in range(1, 9):
        levels = lloyd_max(bits).levels
        assert len(levels) == 2**bits
        assert (np.diff(levels) > 0).all()
        assert np.array_equal(levels, -levels[::-1])
    assert lloyd_max(8).error == pytest.approx(np.pi * np.sqrt(3) / 2 / 4**8, rel=0.02)


def test_the_hadamard_transform_is_the_matrix_and_its_own_inverse():
    assert np.allclose(hadamard(np.eye(2)), np.array([[1, 1], [1, -1]]) / np.sqrt(2), atol=1e-15)
    matrix = hadamard(np.eye(64))
    assert np.allclose(matrix @ matrix.T, np.eye(64), atol=1e-14)
    assert set(np.round(np.unique(matrix * 8), 9)) == {-1.0, 1.0}
    values = gaussian(3, 64)
    assert np.allclose(hadamard(hadamard(values)), values, atol=1e-14)
    assert np.allclose(hadamard(values), values @ matrix, atol=1e-13)


def test_a_rotation_is_orthogonal_and_products_do_not_see_it():
    turn = Rotation(64, seed=3)
    matrix = turn(np.eye(64))
    assert np.allclose(matrix @ matrix.T, np.eye(64), atol=1e-14)
    weight, x = gaussian(5, 64), gaussian(7, 64, seed=1)
    assert np.allclose(turn.back(turn(weight)), weight, atol=1e-14)
    assert np.allclose(turn(x) @ turn(weight).T, x @ weight.T, atol=1e-12)
    assert not np.allclose(Rotation(64, seed=4)(weight), turn(weight))


def test_rotated_grids_lose_less_than_the_best_uniform_ones():
    rows = gaussian(16, 4096)
    uniform = min(error(rows, least_error(rows, 4, grid, 0).quantized(rows)) for grid in (symmetric, asymmetric))
    found = rotated(rows, 4)
    assert error(rows, found.values()) <= 0.83 * uniform
    assert found.bits() == rows.size * 4 + rows.size // 1024 * 16


def test_a_rotation_spreads_what_stands_out():
    rows = gaussian(8, 1024)
    rows[:, 7] *= 60
    found = error(rows, rotated(rows, 4).values()) / float(np.square(rows).mean())
    assert found == pytest.approx(lloyd_max(4).error, rel=0.3)
    assert found < 0.5 * error(rows, least_error(rows, 4, symmetric, 0).quantized(rows)) / float(np.square(rows).mean())


@pytest.mark.parametrize("length", [1, 5, 64, 1000, 1025])
def test_any_length_is_rotated(length: int):
    rows = gaussian(4, length)
    found = rotated(rows, 8)
    assert found.values().shape == rows.shape
    assert error(rows, found.values()) < 2e-3
    assert not rotated(np.zeros((2, length))).values().any()


def test_the_mean_of_the_outputs_is_kept():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 3, groups=2).double()
    x = torch.rand(8, 6, 9, 9, dtype=torch.float64) + torch.arange(6).reshape(6, 1, 1)
    want = layer(x).mean((0, 2, 3))
    weight = layer.weight.detach().clone()
    layer.weight.data = torch.from_numpy(symmetric(min_max(weight, 0), 3).quantized(weight))
    off = (layer(x).mean((0, 2, 3)) - want).abs().max()
    layer.bias.data += torch.from_numpy(bias_correction(weight, layer.weight.detach(), x.mean((0, 2, 3)), groups=2))
    assert (layer(x).mean((0, 2, 3)) - want).abs().max() < 0.05 * off


def pairs() -> dict[str, nn.Sequential]:
    torch.manual_seed(0)
    return {
        "linear": nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)),
        "convolution": nn.Sequential(nn.Conv2d(5, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)),
        "pooled": nn.Sequential(nn.Conv2d(5, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 2, groups=2)),
        "depthwise": nn.Sequential(nn.Conv2d(5, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8)),
        "flattened": nn.Sequential(nn.Conv2d(5, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 3)),
        "normalized": nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3)),
    }


@pytest.mark.parametrize("name", pairs())
def test_equalisation_keeps_every_bit_where_scales_are_powers_of_two(name: str):
    model = pairs()[name].double()
    first, second = model[0], model[-1]
    x = torch.randn({"linear": (4, 5), "normalized": (4, 8)}.get(name, (4, 5, 9, 9)), dtype=torch.float64)
    want, groups = model(x), getattr(second, "groups", 1)
    scales = equalising_scales(first.weight.detach(), second.weight.detach(), groups)
    for factors in (powers_of_two(scales), scales):
        changed = pairs()[name].double()
        for p, value in (
            (changed[0].weight, divide_outputs(first.weight.detach(), factors)),
            (changed[0].bias, divide_outputs(first.bias.detach(), factors)),
            (changed[-1].weight, multiply_inputs(second.weight.detach(), factors, groups)),
        ):
            p.data = torch.from_numpy(value)
        exact = factors is not scales
        assert torch.equal(changed(x), want) if exact else torch.allclose(changed(x), want, rtol=1e-12, atol=1e-13)
    if name == "linear":  # ranges of both sides are equal now
        assert torch.allclose(changed[0].weight.abs().amax(1), changed[-1].weight.abs().amax(0))


def test_smoothing_moves_the_range_of_activations_into_weights():
    most, weight = np.array([100.0, 1.0, 0.0, 4.0]), np.array([[1.0, -2.0, 1.0, 0.0], [-4.0, 1.0, 1.0, 0.0]])
    scales = smoothing_scales(most, weight)
    assert scales.tolist() == pytest.approx([5.0, 0.5**0.5, 1.0, 1.0])
    assert smoothing_scales(most, weight, 0.0).tolist() == pytest.approx([0.25, 0.5, 1.0, 1.0])
    assert smoothing_scales(most, weight, 1.0).tolist() == pytest.approx([100.0, 1.0, 1.0, 1.0])
    assert (most[:2] / scales[:2]).tolist() == pytest.approx(np.abs(multiply_inputs(weight, scales)).max(0)[:2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: symmetric(bounds(0, 1), 1), "bits=1: expected 2 to 16"),
        (lambda: lloyd_max(9), "bits=9: expected 1 to 8"),
        (lambda: bounds(1, 0), "the lower one first"),
        (lambda: min_max([np.nan]), "inf or nan"),
        (lambda: symmetric(bounds(0, 1), 8).codes([np.nan]), "nan has no code"),
        (lambda: min_max([]), "expected at least one"),
        (lambda: min_max([1.0], 1), "channels=1: the values have 1 axes"),
        (lambda: percentile([1.0], 0.4), "share=0.4"),
        (lambda: hadamard(np.ones(6)), "expected a power of two, got 6"),
        (lambda: Rotation(12), "expected a power of two, got 12"),
        (lambda: in_groups(np.ones(3), 0), "group=0"),
        (lambda: rotated(np.ones((2, 0))), "a last axis of at least 1"),
        (lambda: divide_outputs(np.ones((2, 3)), [1.0]), "one for each output of"),
        (lambda: divide_outputs(np.ones((2, 3)), [1.0, -1.0]), "finite numbers above 0"),
        (lambda: multiply_inputs(np.ones((2, 3)), [1.0, 1.0]), "one for each input of"),
        (lambda: equalising_scales(np.ones((2, 3)), np.ones((2, 3))), "does not read 2 channels"),
        (lambda: smoothing_scales([1.0], np.ones((1, 1)), 2.0), "strength=2.0"),
        (lambda: bias_correction(np.ones((2, 3)), np.ones((2, 3)), [1.0]), r"expected \[3\]"),
    ],
)
def test_what_does_not_fit_is_named(call, message: str):
    with pytest.raises(UsageError, match=message):
        call()
