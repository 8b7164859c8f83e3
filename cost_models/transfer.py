"""From one machine to another with few labels, and less data for the same ranker.

Pruning follows the observation of Verma et al. (arXiv 2304.05430) that about half of such a data set is redundant: of
candidates that look alike and took the same time, one is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from tpopt.cost_models.learned import CLIP, LearnedRanker, Settings, fit_networks
from tpopt.cost_models.ranking import Indices, Matrix, Ranker, Scores, Trials, Vector, score, split
from tpopt.errors import UsageError

FINE_TUNE: Final = Settings(epochs=30, rate=1e-3)
LABELS: Final = 256
TIME_SCALE: Final = 4.0
"""How much a difference of log2 of the time weighs beside one standard deviation of every feature, in pruning."""


def prune(trials: Trials, share: float) -> Trials:
    """The trials less ``share`` of them: those that look and take most like another of their task that stays.

    Greedy, in the order of the distance to the nearest one that stays; each task keeps two at least.
    Raises UsageError for a share that is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UsageError(f"share={share}: expected at least 0 and less than 1")
    scale = trials.features.std(axis=0)
    scaled = np.clip((trials.features - trials.features.mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0), -CLIP, CLIP)
    space = np.hstack([scaled / np.sqrt(scaled.shape[1]), TIME_SCALE * trials.ratio[:, None]])
    novelty = np.full(len(trials), np.inf)
    for rows in trials.groups():
        novelty[rows] = _novelty(space[rows], trials.ratio[rows])
    keep = len(trials) - round(share * len(trials))
    return trials.rows(np.sort(np.argsort(-novelty, kind="stable")[:keep]))


def _novelty(points: Matrix, ratio: Vector) -> Vector:
    """How far each point lies from all that were taken before it, the fastest first: farthest-point order."""
    found = np.full(len(points), np.inf)
    first = int(np.argmin(ratio))
    distance = np.linalg.norm(points - points[first], axis=1)
    left = np.ones(len(points), dtype=bool)
    left[first] = False
    for turn in range(1, len(points)):
        farthest = int(np.argmax(np.where(left, distance, -1.0)))
        found[farthest] = np.inf if turn == 1 else distance[farthest]
        left[farthest] = False
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return found


def few(trials: Trials, labels: int, seed: int) -> Trials:
    """So many labels: whole tasks' worth of up to eight candidates each, so that there is something to rank."""
    rng = np.random.default_rng(seed)
    groups = trials.groups()
    rows: list[int] = []
    chosen = [list(rng.permutation(groups[n])) for n in rng.permutation(len(groups))]
    for first in range(0, max((len(g) for g in chosen), default=0), 8):
        for group in chosen:
            rows += [int(r) for r in group[first : first + 8]]
            if len(rows) >= labels:
                return trials.rows(np.sort(np.array(rows[:labels], dtype=np.int64)))
    return trials.rows(np.sort(np.array(rows, dtype=np.int64)))


def fine_tune(source: LearnedRanker, labels: Trials, seed: int = 0) -> LearnedRanker:
    """A ranker for another machine: the source's networks, trained on with few labels at a low rate.

    The analytic half of the features, which depends on the machine through its descriptor, is shared.
    """
    if source.kind != "lambdarank":
        raise UsageError(f"a ranker of kind {source.kind!r} has no networks to train on: expected lambdarank")
    return fit_networks(labels, seed, replace(FINE_TUNE, members=len(source.members)), start=source)


@dataclass(frozen=True)
class Residual:
    """A source's prediction plus a ridge of what it misses: TenSet's local model."""

    source: LearnedRanker
    weights: Vector

    @staticmethod
    def fit(source: LearnedRanker, labels: Trials, strength: float = 100.0) -> Residual:
        """The ridge, centred within each task."""
        x, missed = source.scaled(labels.features), labels.ratio - source.predict(labels.features)[0]
        for rows in labels.groups():
            x[rows] -= x[rows].mean(axis=0)
            missed[rows] -= missed[rows].mean()
        weights: Vector = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ missed).astype(np.float64)
        return Residual(source, weights)

    def predict(self, features: Matrix) -> tuple[Vector, Vector]:
        """As :meth:`LearnedRanker.predict`."""
        said, spread = self.source.predict(features)
        return said + self.source.scaled(features) @ self.weights, spread


@dataclass(frozen=True)
class Transfer:
    """Scores on held-out families of the target, by how the ranker came to be."""

    ways: Mapping[str, Scores]
    labels: int

    def to_dict(self) -> dict[str, Any]:
        return {"labels": self.labels, "ways": {name: asdict(s) for name, s in self.ways.items()}}


def transfer(
    source: Trials, target: Trials, *, labels: int = LABELS, seed: int = 0, settings: Settings | None = None
) -> Transfer:
    """Every way to rank on a target of which few labels are known, next to all of its data.

    ``none`` uses the source as it is, ``scratch`` the labels alone, ``fine-tuned`` and ``residual`` both, ``full``
    every trial of the target that is not held out. Families that are held out are unknown to the source, too.
    """
    train, test = split(target, seed)
    held = {target.families[t] for t in np.unique(test.task)}
    known = source.rows(_outside(source, held))
    given = few(train, labels, seed)
    pretrained = fit_networks(known, seed, settings)
    ways: dict[str, Ranker] = {
        "none": pretrained,
        "scratch": fit_networks(given, seed, settings),
        "fine-tuned": fine_tune(pretrained, given, seed),
        "residual": Residual.fit(pretrained, given),
        "full": fit_networks(train, seed, settings),
    }
    return Transfer({name: score(w.predict(test.features)[0], test) for name, w in ways.items()}, len(given))


def _outside(trials: Trials, held: set[str]) -> Indices:
    return np.flatnonzero([trials.families[t] not in held for t in trials.task])
