"""The ranker's rows on trials of this machine, which it collects first: some twenty minutes, resumable."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from tpopt.backend.generated.machine import host_processor
from tpopt.backend.tvm.tune.collect import collect
from tpopt.backend.tvm.tune.dataset import arrays
from tpopt.backend.tvm.tune.trial import MODULES
from tpopt.cost_models.learned import compare, fit_networks
from tpopt.cost_models.ranking import Trials as Arrays
from tpopt.cost_models.ranking import score, split
from tpopt.cost_models.transfer import prune, transfer
from tpopt.executors.local import LocalWorkers
from tpopt.store.trials import Trials

pytestmark = [pytest.mark.acceptance, pytest.mark.serial]
SECONDS = float(os.environ.get("TPOPT_COLLECT_SECONDS", "600"))
CLOSE = 1.02
"""Quality is equal within 2 %."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    given = os.environ.get("TPOPT_TRIALS")
    return Trials(given or Path(tmp_path_factory.mktemp("trials")) / "trials.db")


def collected(store: Trials, seconds: float, *, threads: int = 1, vector_bytes: int | None = None) -> Arrays:
    processor = replace(host_processor(), threads=threads)
    if vector_bytes is not None:
        processor = replace(processor, vector_bytes=vector_bytes, registers=16)
    workers = LocalWorkers(1, modules=MODULES)
    collect(workers, store, processor, seeds=range(24), each=32, seconds=seconds)
    workers.close()
    texts = (f'"threads":{processor.threads}', f'"vector_bytes":{processor.vector_bytes}')
    return arrays(t for t in store.of(done=True) if all(text in t.device for text in texts))


def test_the_ranker_ranks_families_that_it_has_not_seen(store: Trials):
    trials = collected(store, SECONDS)
    found = compare(trials)
    mean = found.to_dict()["mean"]["lambdarank"]
    assert found.ships == "lambdarank"
    assert mean["pairwise"] >= 0.85
    assert mean["top1"] >= 0.88
    assert mean["top5"] >= 0.95


def test_it_needs_fewer_trials_than_online_boosting(store: Trials):
    trials = collected(store, 0.0)
    ranked, boosted = [], []
    for seed in range(5):
        train, test = split(trials, seed)
        ranker = fit_networks(train, seed)
        for rows in test.groups():
            if len(rows) >= 16:
                order = np.argsort(ranker.predict(test.features[rows])[0], kind="stable")
                ranked.append(trials_until_close(test.us[rows][order]))
                boosted.append(trials_until_close(test.us[rows][online(test.features[rows], test.ratio[rows], seed)]))
    assert np.mean(ranked) <= 0.4 * np.mean(boosted)


def test_nearly_half_of_the_data_is_redundant(store: Trials):
    trials = collected(store, 0.0)
    losses = []
    for seed in range(5):
        train, test = split(trials, seed)
        full, less = (score(fit_networks(t, seed).predict(test.features)[0], test) for t in (train, prune(train, 0.45)))
        losses.append(full.pairwise - less.pairwise)
    assert np.mean(losses) <= 0.005


@pytest.mark.parametrize("target", [{"threads": 2}, {"vector_bytes": 32}], ids=["two threads", "avx2"])
def test_few_labels_are_enough_for_another_cpu(store: Trials, target: dict[str, int]):
    source = collected(store, 0.0)
    there = collected(store, SECONDS / 2, **target)
    found = [transfer(source, there, seed=seed).ways for seed in range(5)]
    mean = {way: np.mean([f[way].top5 for f in found]) for way in found[0]}
    assert max(mean["fine-tuned"], mean["residual"]) >= mean["scratch"] + 0.05
    assert max(mean["fine-tuned"], mean["residual"]) >= 0.9 * mean["full"]


def trials_until_close(us: np.ndarray) -> int:
    """How many, in this order, until one is as good as the best."""
    return int(np.argmax(us <= CLOSE * us.min())) + 1


def online(features: np.ndarray, ratio: np.ndarray, seed: int, batch: int = 4) -> np.ndarray:
    """The order in which boosted trees that learn from the trials so far would measure one kernel's candidates."""
    rng = np.random.default_rng(seed)
    order = list(rng.permutation(len(ratio))[:batch])
    while len(order) < len(ratio):
        left = np.setdiff1d(np.arange(len(ratio)), order)
        model = HistGradientBoostingRegressor(max_iter=30, min_samples_leaf=2, random_state=seed)
        model.fit(features[order], ratio[order])
        order += list(left[np.argsort(model.predict(features[left]), kind="stable")][:batch])
    return np.array(order)
