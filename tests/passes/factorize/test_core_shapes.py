"""Core shapes against brute force, the higher-order SVD's errors, and baselines that cost a thousand times as much."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.factorize.core_shapes import (
    Spectra,
    core_shape,
    core_shapes,
    fitted,
    least_error,
    most_ranks,
    parameters,
    shapes_within,
)
from tpopt.passes.factorize.packing import (
    error_greedy,
    greedy,
    packed_value,
    packing,
    packing_brute,
    packing_program,
)


def drawn(seed: int, shape: tuple[int, ...] | None = None, decay: float = 1.0) -> np.ndarray:
    """A tensor whose spectra decay."""
    rng = np.random.default_rng(seed)
    shape = shape or tuple(int(n) for n in rng.integers(2, 9, size=rng.integers(2, 5)))
    tensor = rng.standard_normal(shape)
    for mode, size in enumerate(shape):
        basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
        scaled = basis * np.arange(1, size + 1) ** -decay
        tensor = np.moveaxis(np.tensordot(scaled, tensor, axes=(1, mode)), 0, mode)
    return tensor


def budgets(shape: tuple[int, ...]) -> list[int]:
    least, most = parameters(shape, [1] * len(shape)), parameters(shape, shape)
    return [int(least + s * (most - least)) for s in (0.0, 0.1, 0.3, 0.6, 1.0)]


@pytest.mark.parametrize("seed", range(20))
def test_packing_is_the_best_of_all_shapes(seed: int):
    spectra = Spectra.of(drawn(seed))
    for budget in budgets(spectra.shape):
        best = packing_brute(spectra.squares, budget)
        found = packing(spectra.squares, budget)
        assert parameters(spectra.shape, found) <= budget
        assert packed_value(spectra.squares, found) == pytest.approx(packed_value(spectra.squares, best))
        program = packing_program(spectra.squares, budget, 0.25)
        assert packed_value(spectra.squares, program) <= packed_value(spectra.squares, best) * (1 + 1e-9)
        assert packed_value(spectra.squares, program) >= packed_value(spectra.squares, best) * 0.75


@pytest.mark.parametrize("seed", range(10))
def test_one_prefix_sum_has_the_error_of_every_truncation(seed: int):
    tensor = drawn(seed)
    spectra = Spectra.of(tensor)
    energies = spectra.energies()
    assert spectra.total == pytest.approx(float((tensor**2).sum()))
    rng = np.random.default_rng(seed)
    for _ in range(5):
        core = tuple(int(rng.integers(1, n + 1)) for n in tensor.shape)
        lost = float(((tensor - spectra.truncated(core)) ** 2).sum())
        assert spectra.total - energies[tuple(r - 1 for r in core)] == pytest.approx(lost, abs=1e-9 * spectra.total)
        tails = [float(s[r:].sum()) for s, r in zip(spectra.squares, core, strict=True)]
        assert max(tails) - 1e-9 <= lost <= sum(tails) + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_the_chosen_shape_loses_least_of_all(seed: int):
    spectra = Spectra.of(drawn(seed))
    energies = spectra.energies()
    for budget in budgets(spectra.shape):
        every = (
            r for r in product(*(range(1, n + 1) for n in spectra.shape)) if parameters(spectra.shape, r) <= budget
        )
        best = max(float(energies[tuple(k - 1 for k in r)]) for r in every)
        found = least_error(spectra, budget)
        assert energies[tuple(r - 1 for r in found)] == pytest.approx(best)


def test_ranks_can_be_bounded():
    spectra = Spectra.of(drawn(3, (6, 7, 8)))
    found = least_error(spectra, 10**6, most=(2, 3, 8))
    assert found == (2, 3, 8)


def test_iteration_only_improves_and_finds_a_planted_model():
    rng = np.random.default_rng(0)
    core = rng.standard_normal((2, 3, 2))
    tensor = core
    for mode, size in enumerate((9, 10, 11)):
        basis, _ = np.linalg.qr(rng.standard_normal((size, core.shape[mode])))
        tensor = np.moveaxis(np.tensordot(basis, tensor, axes=(1, mode)), 0, mode)
    found = fitted(tensor, (2, 3, 2))
    assert found.error(tensor) <= 1e-12
    assert np.allclose(found.whole(), tensor)
    budget = parameters(tensor.shape, (2, 3, 2))
    assert least_error(Spectra.of(tensor), budget) == (2, 3, 2)
    noisy = tensor + 0.1 * rng.standard_normal(tensor.shape)
    spectra = Spectra.of(noisy)
    truncated = float(((noisy - spectra.truncated((2, 3, 2))) ** 2).sum() / (noisy**2).sum())
    assert fitted(noisy, (2, 3, 2), start=spectra).error(noisy) <= truncated + 1e-12


def test_it_is_as_good_as_the_greedy_search_that_fits_a_model_at_each_step():
    ratios = []
    for seed in range(4):
        tensor = drawn(seed, (8, 9, 10), decay=0.7)
        for budget, shape, model in core_shapes(tensor, [60, 150, 300]):
            baseline = fitted(tensor, error_greedy(tensor, budget, 5)).error(tensor)
            ratios.append(model.error(tensor) / baseline)
            for other in (greedy(Spectra.of(tensor).squares, budget), packing(Spectra.of(tensor).squares, budget)):
                assert parameters(tensor.shape, other) <= budget
            assert parameters(tensor.shape, shape) <= budget
    assert np.mean(ratios) <= 1.0
    assert max(ratios) <= 1.02


def test_greedy_steps_stay_within_the_budget():
    squares = Spectra.of(drawn(5, (7, 8, 9))).squares
    for per in (False, True):
        for budget in (30, 100, 400):
            assert parameters((7, 8, 9), greedy(squares, budget, per_parameter=per)) <= budget


@pytest.mark.parametrize(
    "shape", [(256, 256, 14, 20), (1024, 1344, 33), (1084, 2033, 96), (7200, 128, 128, 3)], ids=str
)
def test_the_search_takes_milliseconds_at_large_shapes(shape: tuple[int, ...]):
    squares = [np.sort(np.random.default_rng(0).exponential(size=n))[::-1] for n in shape]
    start = time.perf_counter()
    found = packing(squares, 100_000)
    assert time.perf_counter() - start < 0.5  # 10 to 20 ms alone on a machine
    assert parameters(shape, found) <= 100_000


def test_every_shape_within_is_below_one_that_is_listed():
    shape, budget = (5, 4, 6), 60
    listed = shapes_within(shape, budget)
    assert all(parameters(shape, r) <= budget for r in listed.tolist())
    for core in product(*(range(1, n + 1) for n in shape)):
        if parameters(shape, core) <= budget:
            assert (listed >= np.array(core)).all(axis=1).any()


def test_what_cannot_be_is_refused():
    squares = Spectra.of(drawn(1, (5, 6))).squares
    for solve in (packing, packing_program):
        with pytest.raises(LimitExceeded, match="parameters or fewer"):
            solve(squares, 11)
    with pytest.raises(UsageError, match="accuracy"):
        packing_program(squares, 100, 0.0)
    with pytest.raises(UsageError, match="finite"):
        Spectra.of(np.array([[np.nan]]))
