"""What a ranker learns from, and how well it ranks: trials as arrays, splits by family, pairwise accuracy, top-k.

Sources of the scores: pairwise accuracy as in TenSet (Zheng et al., NeurIPS Datasets 2021), top-k as in TLP (Zhai et
al., ASPLOS 2023): the sum over tasks of the best time, over the sum of the best time among the k that are ranked first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from tpopt.errors import UsageError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TIE: Final = 0.03
"""Times closer than this (log2: 2 %) are one time to a machine: such pairs count neither way."""


@dataclass(frozen=True)
class Trials:
    """Measured candidates.

    Attributes:
        features: a row for each, float64.
        ratio: log2 of the time over that of its task's own schedule.
        us: the time, in microseconds.
        task: which task it belongs to, from 0.
        families: of each task; a family is never on both sides of a split.
    """

    features: Matrix
    ratio: Vector
    us: Vector
    task: Indices
    families: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises UsageError for arrays of different lengths or figures that are not finite."""
        lengths = {len(self.features), len(self.ratio), len(self.us), len(self.task)}
        if len(lengths) != 1:
            raise UsageError(f"features, ratio, us, task have the lengths {sorted(lengths)}: expected one length")
        if not (np.isfinite(self.features).all() and np.isfinite(self.ratio).all() and (self.us > 0).all()):
            raise UsageError("features and ratio must be finite, us positive")

    def __len__(self) -> int:
        return len(self.ratio)

    def rows(self, chosen: npt.NDArray[np.bool_] | Indices) -> Trials:
        """The trials at some rows; tasks keep their numbers."""
        return Trials(self.features[chosen], self.ratio[chosen], self.us[chosen], self.task[chosen], self.families)

    def of_tasks(self, tasks: Sequence[int]) -> Trials:
        """The trials of some tasks."""
        return self.rows(np.isin(self.task, np.asarray(tasks, dtype=np.int64)))

    def groups(self) -> list[Indices]:
        """Rows of each task that has any, by its number."""
        return [np.flatnonzero(self.task == t) for t in np.unique(self.task)]


class Ranker(Protocol):
    """Says which candidates are fast."""

    def predict(self, features: Matrix) -> tuple[Vector, Vector]:
        """log2 of the time over that of the own schedule, and how uncertain that is (a standard deviation)."""
        ...


@dataclass(frozen=True)
class Scores:
    """How well candidates were ranked; 1 is best everywhere. ``worst`` is the lowest top-5 of a task."""

    pairwise: float
    top1: float
    top5: float
    median_top1: float
    worst: float
    tasks: int
    trials: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def score(predicted: Vector, trials: Trials) -> Scores:
    """The scores of predictions (lower is faster), weighted by the tasks' times. Raises UsageError without trials."""
    if not len(trials):
        raise UsageError("there are no trials to score")
    right = pairs = 0.0
    best: list[float] = []
    first: list[float] = []
    fifth: list[float] = []
    for rows in trials.groups():
        one, all_ = _pairs(predicted[rows], trials.ratio[rows])
        right, pairs = right + one, pairs + all_
        us = trials.us[rows][np.argsort(predicted[rows], kind="stable")]
        best.append(float(us.min()))
        first.append(float(us[0]))
        fifth.append(float(us[:5].min()))
    shares = np.array(best) / np.array(first)
    worst = float(np.min(np.array(best) / np.array(fifth)))
    weighted = (sum(best) / sum(first), sum(best) / sum(fifth))
    return Scores(right / max(pairs, 1.0), *weighted, float(np.median(shares)), worst, len(best), len(trials))


def _pairs(predicted: Vector, actual: Vector) -> tuple[float, float]:
    """Pairs in the right order, and pairs; equal predictions are half right."""
    gap = actual[:, None] - actual[None, :]
    said = predicted[:, None] - predicted[None, :]
    counted = gap > TIE
    right = (counted & (said > 0)).sum() + 0.5 * (counted & (said == 0)).sum()
    return float(right), float(counted.sum())


def split(trials: Trials, seed: int, share: float = 0.2) -> tuple[Trials, Trials]:
    """Train and test by family: about ``share`` of the families are held out. Raises UsageError for one family."""
    families = sorted({trials.families[t] for t in np.unique(trials.task)})
    if len(families) < 2:
        raise UsageError(f"{len(families)} families cannot be split: collect more kinds")
    shuffled = np.random.default_rng(seed).permutation(len(families))
    held = {families[n] for n in shuffled[: max(1, round(share * len(families)))]}
    out = np.array([trials.families[t] in held for t in trials.task])
    return trials.rows(~out), trials.rows(out)
