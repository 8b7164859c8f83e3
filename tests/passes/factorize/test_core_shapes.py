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
        assert packed_value(spectra.squares, found) == pytest.approx(packed_value(spectra.squares, best), rel=1e-12)


def test_packing_is_the_best_at_every_budget_of_every_small_shape():
    rng = np.random.default_rng(0)
    for shape in (s for modes in (1, 2, 3) for s in product(range(1, 5), repeat=modes)):
        squares = [np.sort(rng.exponential(size=n))[::-1] for n in shape]
        every = [(parameters(shape, r), packed_value(squares, r)) for r in product(*(range(1, n + 1) for n in shape))]
        for budget in sorted({size for size, _ in every}):
            best = max(value for size, value in every if size <= budget)
            assert packed_value(squares, packing(squares, budget)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("accuracy", [0.25, 0.5, 2 / 3])
def test_the_approximation_scheme_is_within_its_guarantee(accuracy: float):
    for seed in range(3):
        spectra = Spectra.of(drawn(seed))
        for budget in budgets(spectra.shape)[1:4]:
            best = packed_value(spectra.squares, packing(spectra.squares, budget))
            found = packed_value(spectra.squares, packing_program(spectra.squares, budget, accuracy))
            assert (1 - accuracy) * best <= found <= best * (1 + 1e-9)


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


@pytest.mark.parametrize("seed", range(10))
def test_bases_that_are_cut_have_the_errors_of_their_truncations(seed: int):
    tensor = drawn(seed)
    for budget in budgets(tensor.shape):
        spectra = Spectra.within(tensor, budget)
        assert spectra.core.shape == tuple(f.shape[1] for f in spectra.factors)
        assert all(k <= m for k, m in zip(spectra.core.shape, most_ranks(tensor.shape, budget), strict=True))
        assert all(np.allclose(f.T @ f, np.eye(f.shape[1])) for f in spectra.factors)
        core = core_shape(tensor, budget)
        lost = float(((tensor - spectra.truncated(core)) ** 2).sum())
        kept = float(spectra.energies()[tuple(r - 1 for r in core)])
        assert spectra.total - kept == pytest.approx(lost, abs=1e-9 * spectra.total)
        uncut = Spectra.of(tensor)
        best = float(uncut.energies()[tuple(r - 1 for r in least_error(uncut, budget))])
        assert kept >= best - 0.02 * spectra.total


def test_no_shape_within_a_budget_has_a_rank_above_the_largest():
    for shape in ((4, 5, 6), (3, 9), (2, 3, 4, 5)):
        for budget in budgets(shape):
            every = [r for r in product(*(range(1, n + 1) for n in shape)) if parameters(shape, r) <= budget]
            assert most_ranks(shape, budget) == tuple(max(r[n] for r in every) for n in range(len(shape)))


def test_a_long_mode_has_its_leading_vectors_by_iteration():
    tensor = drawn(1, (300, 20, 9))
    spectra = Spectra.of(tensor, most=(5, 20, 9))
    values = np.linalg.svd(tensor.reshape(300, -1), compute_uv=False)
    assert spectra.squares[0] == pytest.approx(values[:5] ** 2, rel=1e-9)
    assert spectra.core.shape == (5, 20, 9)
    assert not Spectra.of(np.zeros((300, 20, 9)), most=(5, 20, 9)).core.any()


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
    assert time.perf_counter() - start < 0.5  # the bar is in test_rows.py, for a machine with nothing else to do
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
    for accuracy in (0.0, 1.0):
        with pytest.raises(UsageError, match="accuracy"):
            packing_program(squares, 100, accuracy)
    for wrong in (np.array([[np.nan]]), np.array([[np.inf, -np.inf]]), np.zeros((0, 3))):
        with pytest.raises(UsageError, match="finite"):
            Spectra.of(wrong)
