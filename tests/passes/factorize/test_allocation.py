"""Allocations against every choice, rules within their budgets, and ranks by variational Bayes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.factorize.allocation import Candidates, allocate, total_error, total_size
from tpopt.passes.factorize.core_shapes import Spectra, least_error, parameters
from tpopt.passes.factorize.rules import same_error, same_share, scaled_ranks, steepest, vbmf_rank

Rule = Callable[[Sequence[Candidates], int], tuple[int, ...]]
RULES: list[Rule] = [same_share, same_error, steepest, lambda layers, budget: scaled_ranks(layers, budget, [3] * 20)]


def drawn(seed: int, count: int, candidates: int) -> list[Candidates]:
    """Layers whose errors fall as their sizes grow."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        sizes = np.sort(rng.choice(np.arange(1, 50), candidates, replace=False)).astype(np.int64)
        found.append(Candidates(sizes, np.sort(rng.exponential(size=candidates))[::-1]))
    return found


def budgets(layers: Sequence[Candidates]) -> list[int]:
    least, most = (sum(int(f(c.sizes)) for c in layers) for f in (np.min, np.max))
    return [int(least + s * (most - least)) for s in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)]


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_is_the_best_of_all(seed: int):
    layers = drawn(seed, 4, 5)
    for budget in budgets(layers):
        every = [c for c in product(range(5), repeat=4) if total_size(layers, c) <= budget]
        found = allocate(layers, budget)
        assert found.size == total_size(layers, found.choice) <= budget
        assert found.error == pytest.approx(min(total_error(layers, c) for c in every), rel=1e-9)
        assert found.bound <= found.error
        assert found.gap <= 1e-9


def test_candidates_may_be_in_any_order_and_useless():
    layers = [Candidates(np.array([5, 1, 9, 9]), np.array([1.0, 3.0, 2.0, 0.0])), Candidates(np.array([2]), np.ones(1))]
    assert allocate(layers, 10).choice == (0, 0)
    assert allocate(layers, 11).choice == (3, 0)
    assert allocate(layers, 3).choice == (1, 0)
    assert allocate([], 0).choice == ()


@pytest.mark.parametrize("seed", range(4))
def test_no_rule_is_better_within_the_budget(seed: int):
    layers = drawn(seed, 20, 12)
    for budget in budgets(layers):
        best = allocate(layers, budget)
        for rule in RULES:
            choice = rule(layers, budget)
            assert total_size(layers, choice) <= budget
            assert total_error(layers, choice) >= best.error * (1 - 1e-9)


def test_what_the_rules_choose():
    layers = [
        Candidates(np.array([10, 20, 30]), np.array([4.0, 1.0, 0.0])),
        Candidates(np.array([1, 2, 3]), np.array([9.0, 2.0, 0.0])),
    ]
    assert same_share(layers, 22) == (1, 1)
    assert same_error(layers, 22) == (1, 1)
    assert same_error(layers, 23) == (1, 2)
    assert steepest(layers, 13) == (0, 2)
    assert scaled_ranks(layers, 22, [1, 2]) == (0, 2)
    assert allocate(layers, 23).choice == (1, 2)


def test_a_budget_below_the_smallest_candidates_is_refused():
    layers = drawn(0, 3, 4)
    least = sum(int(c.sizes.min()) for c in layers)
    for solve in (allocate, *RULES[:3]):
        with pytest.raises(LimitExceeded, match="budget="):
            solve(layers, least - 1)


@pytest.mark.parametrize(
    ("sizes", "errors"),
    [
        (np.array([1, 2]), np.ones(1)),
        (np.array([1.0]), np.ones(1)),
        (np.array([1]), np.array([np.nan])),
        (np.zeros(0, dtype=np.int64), np.zeros(0)),
    ],
)
def test_candidates_are_whole_sizes_with_finite_errors(sizes: np.ndarray, errors: np.ndarray):
    with pytest.raises(UsageError, match="candidates"):
        Candidates(sizes, errors)


def test_ranks_and_core_shapes_are_candidates():
    tensor = np.random.default_rng(0).standard_normal((6, 7, 5))
    matrix = tensor.reshape(6, 35)
    values = np.linalg.svd(matrix, compute_uv=False)
    ranks = Candidates.of_ranks(values**2, 41, 2.0)
    assert ranks.sizes.tolist() == [41 * r for r in range(1, 7)]
    assert ranks.errors == pytest.approx([2 * float((values[r:] ** 2).sum()) for r in range(1, 7)])
    spectra = Spectra.of(tensor)
    shapes, cores = Candidates.of_core_shapes(spectra, 8)
    assert cores[0] == least_error(spectra, parameters(tensor.shape, (1, 1, 1)))
    for size, error, core in zip(shapes.sizes, shapes.errors, cores, strict=True):
        assert size == parameters(tensor.shape, core)
        assert error == pytest.approx(float(((tensor - spectra.truncated(core)) ** 2).sum()), abs=1e-9)
        assert core == least_error(spectra, int(size))


def test_variational_bayes_finds_a_planted_rank_in_noise():
    rng = np.random.default_rng(0)
    for shape in ((80, 120), (120, 80), (100, 100)):
        noise = rng.standard_normal(shape)
        signal = rng.standard_normal((shape[0], 5)) @ rng.standard_normal((5, shape[1]))
        assert vbmf_rank(np.linalg.svd(signal + 0.5 * noise, compute_uv=False), shape) == 5
        assert vbmf_rank(np.linalg.svd(noise, compute_uv=False), shape) == 0
    assert vbmf_rank(np.zeros(4), (4, 9)) == 0
    with pytest.raises(UsageError, match="4 singular values"):
        vbmf_rank(np.zeros(5), (4, 9))
