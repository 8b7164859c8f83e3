"""Rankers on trials whose law is known, and the arithmetic of their scores and gradients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tpopt.cost_models.learned import (
    LearnedRanker,
    Settings,
    _backward,
    _forward,
    _initial,
    compare,
    fit_networks,
    fit_ridge,
    rank_gradient,
)
from tpopt.cost_models.ranking import Trials, score, split
from tpopt.cost_models.transfer import Residual, few, fine_tune, prune, transfer
from tpopt.errors import CorruptFile, UsageError

QUICK = Settings(members=2, epochs=15)


def synthetic(*, bent: bool, seed: int = 0, tasks: int = 30, shift: float = 0.0) -> Trials:
    """Tasks whose times follow a law of the features: a plane, or one with a bend that no plane has."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tasks * 24, 6))
    law = x[:, 0] - 0.5 * x[:, 1] + shift * x[:, 3]
    if bent:
        law = 2.0 * np.abs(x[:, 0]) + shift * x[:, 3]
    task = np.repeat(np.arange(tasks), 24)
    us = 2.0**law * (1 + task)
    return Trials(x, law, us, task, tuple(f"family {n % 10}" for n in range(tasks)))


def test_scores_of_a_ranking_by_hand():
    trials = Trials(np.zeros((4, 1)), np.log2([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 2, 4, 8]), np.zeros(4, int), ("f",))
    found = score(np.array([1.0, 0.0, 2.0, 3.0]), trials)  # the second best is ranked first
    assert (found.pairwise, found.top1, found.top5, found.tasks, found.trials) == (5 / 6, 0.5, 1.0, 1, 4)
    assert score(np.zeros(4), trials).pairwise == 0.5


def test_top_k_is_weighted_by_time():
    us = np.array([1.0, 2.0, 100.0, 100.1])
    trials = Trials(np.zeros((4, 1)), np.log2(us), us, np.array([0, 0, 1, 1]), ("a", "b"))
    assert score(np.array([1.0, 0.0, 0.0, 1.0]), trials).top1 == pytest.approx(101 / 102)


def test_no_family_is_on_both_sides_of_a_split():
    for seed in range(5):
        train, test = split(synthetic(bent=False), seed)
        sides = [{t.families[k] for k in t.task} for t in (train, test)]
        assert len(sides[1]) == 2
        assert not sides[0] & sides[1]


def test_the_gradient_of_a_network_is_that_of_differences():
    rng = np.random.default_rng(0)
    member, x = _initial(5, rng), rng.normal(size=(7, 5))
    weights = rng.normal(size=(7, 1))
    found = _backward(member, _forward(member, x), weights)
    for name, value in member.items():
        place = tuple(rng.integers(n) for n in value.shape)
        value[place] += 1e-6
        above = float((_forward(member, x)[-1] * weights).sum())
        value[place] -= 2e-6
        below = float((_forward(member, x)[-1] * weights).sum())
        value[place] += 1e-6
        assert found[name][place] == pytest.approx((above - below) / 2e-6, abs=1e-5)


def test_the_rank_gradient_pulls_the_fast_down_and_sums_to_nothing():
    found = rank_gradient(np.array([0.0, 0.0, 0.0]), np.array([0.0, 1.0, 2.0]))
    assert found[0] > 0 > found[2]  # descent lowers what is said of the fast one
    assert found.sum() == pytest.approx(0.0, abs=1e-12)


def test_ridge_finds_a_plane_and_ships():
    compared = compare(synthetic(bent=False), range(2), QUICK)
    assert min(s.pairwise for s in compared.ridge) > 0.99
    assert compared.ships == "ridge"


def test_networks_find_a_bend_that_ridge_cannot_and_ship():
    compared = compare(synthetic(bent=True), range(2), QUICK)
    assert min(s.pairwise for s in compared.networks) > 0.9
    assert max(s.pairwise for s in compared.ridge) < 0.6
    assert compared.ships == "lambdarank"
    assert json.loads(json.dumps(compared.to_dict()))["ships"] == "lambdarank"


def test_training_is_the_same_for_the_same_seed():
    trials = synthetic(bent=True, tasks=8)
    one, other, third = (fit_networks(trials, seed, QUICK).predict(trials.features)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


def test_members_disagree_more_far_from_what_they_saw():
    trials = synthetic(bent=True)
    made = fit_networks(trials, 0, Settings(members=4, epochs=15))
    near, far = (made.predict(trials.features * f)[1].mean() for f in (1.0, 3.0))
    assert far > 1.5 * near > 0


def test_a_ranker_survives_its_file(tmp_path: Path):
    trials = synthetic(bent=True, tasks=8)
    made = fit_networks(trials, 0, QUICK)
    made.save(tmp_path / "r.safetensors")
    again = LearnedRanker.load(tmp_path / "r.safetensors")
    assert again.kind == "lambdarank"
    np.testing.assert_allclose(again.predict(trials.features)[0], made.predict(trials.features)[0], atol=1e-4)


@pytest.mark.parametrize("damage", ["cut", "facts", "format", "scale"])
def test_a_damaged_ranker_is_refused(tmp_path: Path, damage: str):
    path = tmp_path / "r.safetensors"
    made = fit_ridge(synthetic(bent=False))
    if damage == "scale":
        made = LearnedRanker(made.kind, made.mean, -made.scale, made.members)
    made.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    if damage == "facts":
        path.with_suffix(".json").write_text("[]")
    if damage == "format":
        path.with_suffix(".json").write_text(path.with_suffix(".json").read_text().replace("ranker 1", "ranker 9"))
    with pytest.raises(CorruptFile, match="is no ranker"):
        LearnedRanker.load(path)


def test_features_of_another_width_are_refused():
    with pytest.raises(UsageError, match="expected rows of 6"):
        fit_ridge(synthetic(bent=False)).predict(np.zeros((3, 5)))


def test_pruning_drops_twins_first():
    trials = synthetic(bent=True, tasks=4)
    twice = Trials(
        np.vstack([trials.features] * 2), np.tile(trials.ratio, 2), np.tile(trials.us, 2), np.tile(trials.task, 2),
        trials.families,
    )  # fmt: skip
    kept = prune(twice, 0.5)
    assert len(kept) == len(trials)
    assert {tuple(row) for row in kept.features} == {tuple(row) for row in trials.features}


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_share(share: float):
    with pytest.raises(UsageError, match="at least 0"):
        prune(synthetic(bent=True), share)


def test_few_labels_are_some_of_each_task():
    found = few(synthetic(bent=True), 100, seed=0)
    assert len(found) == 100
    assert all(len(g) >= 4 for g in found.groups())


def test_what_another_machine_shares_is_transferred():
    source = synthetic(bent=True, tasks=60)
    target = synthetic(bent=True, seed=1, shift=0.7)
    ways = transfer(source, target, labels=64, settings=QUICK).ways
    assert ways["fine-tuned"].pairwise > ways["scratch"].pairwise + 0.05
    assert max(ways["fine-tuned"].pairwise, ways["residual"].pairwise) > ways["none"].pairwise


def test_the_residual_of_a_source_that_is_right_is_nothing():
    trials = synthetic(bent=False)
    made = fit_ridge(trials, strength=1e-6)
    assert np.abs(Residual.fit(made, trials).weights).max() < 1e-3


def test_ridge_has_no_networks_to_train_on():
    with pytest.raises(UsageError, match="no networks"):
        fine_tune(fit_ridge(synthetic(bent=False)), synthetic(bent=False))


def test_trials_of_different_lengths_are_refused():
    with pytest.raises(UsageError, match="one length"):
        Trials(np.zeros((3, 1)), np.zeros(2), np.ones(3), np.zeros(3, int), ("f",))
