"""A ranker that learns from trials: an ensemble of small networks, and the ridge regression that it must beat.

Each network predicts log2 of a candidate's time over that of its kernel's own schedule. The loss is LambdaRank within
each task, with the best time over the time as relevance (Burges, "From RankNet to LambdaRank to LambdaMART", 2010; as
in TLP, ASPLOS 2023), plus a tenth of a Huber loss of the prediction itself, which keeps it a time. Members differ in
their start and in the tasks that they see; their spread is the uncertainty.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tpopt.cost_models.ranking import Matrix, Scores, Trials, Vector, score, split
from tpopt.errors import CorruptFile, UsageError

WIDTHS: Final = (64, 32)
CLIP: Final = 6.0
"""Features further from the mean than so many deviations are taken as that far: a kernel unlike any that was seen."""
MARGIN: Final = 0.02
"""Pairwise accuracy by which the networks must beat ridge to be worth their keep."""
FORMAT: Final = "tpopt ranker 1"


@dataclass(frozen=True)
class Settings:
    """How the networks are trained.

    Attributes:
        members: networks of the ensemble.
        epochs: passes over the tasks.
        rate: of Adam, falling to nothing along a cosine.
        huber: weight of the Huber loss.
        share: of the tasks that one member sees.
        decay: of the weights at each step, times the rate.
    """

    members: int = 4
    epochs: int = 60
    rate: float = 3e-3
    huber: float = 0.1
    share: float = 0.9
    decay: float = 1e-3


Parameters = Mapping[str, Matrix]


@dataclass(frozen=True)
class LearnedRanker:
    """``kind`` is ``lambdarank`` or ``ridge``; ``members`` are the parameters of each network (ridge: one layer)."""

    kind: str
    mean: Vector
    scale: Vector
    members: tuple[Parameters, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, features: Matrix) -> tuple[Vector, Vector]:
        """log2 of the time over that of the own schedule, and the deviation among members (0 for one member).

        Raises UsageError for rows of another width.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise UsageError(f"features of shape {features.shape}: expected rows of {len(self.mean)}")
        scaled = self.scaled(features)
        said = np.stack([_forward(m, scaled)[-1][:, 0] for m in self.members])
        return said.mean(axis=0), said.std(axis=0)

    def scaled(self, features: Matrix) -> Matrix:
        """Features as the networks see them."""
        return np.asarray(np.clip((features - self.mean) / self.scale, -CLIP, CLIP))

    def save(self, path: str | Path) -> None:
        """Writes ``path`` (safetensors, float32) and its facts beside it, as ``.json``."""
        where = Path(path)
        arrays = {"mean": self.mean, "scale": self.scale}
        arrays |= {f"{n}.{name}": value for n, m in enumerate(self.members) for name, value in m.items()}
        where.write_bytes(save({name: np.ascontiguousarray(a, dtype=np.float32) for name, a in arrays.items()}))
        facts = {"format": FORMAT, "kind": self.kind, "members": len(self.members), **self.about}
        where.with_suffix(".json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> LearnedRanker:
        """What :meth:`save` wrote. Raises :class:`CorruptFile` for anything else."""
        where = Path(path)
        try:
            arrays = {n: a.astype(np.float64) for n, a in load(where.read_bytes()).items()}
            facts = json.loads(where.with_suffix(".json").read_text(encoding="utf-8"))
            members = tuple(_member(arrays, n) for n in range(int(facts["members"])))
            made = LearnedRanker(str(facts["kind"]), arrays["mean"], arrays["scale"], members, facts)
            fits = facts["format"] == FORMAT and members and (made.scale > 0).all()
            if not fits or not np.isfinite(made.predict(np.zeros((1, len(made.mean))))[0]).all():
                raise ValueError("it is of another format or predicts no number")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise CorruptFile(f"{where} is no ranker: {error}") from error
        return made


def _member(arrays: Mapping[str, Matrix], number: int) -> Parameters:
    prefix = f"{number}."
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def fit_ridge(trials: Trials, strength: float = 10.0) -> LearnedRanker:
    """Ridge regression of the ratio, centred within each task: what differs between tasks is not to be ranked."""
    mean, scale = _moments(trials)
    scaled = np.clip((trials.features - mean) / scale, -CLIP, CLIP)
    x, y = scaled.copy(), trials.ratio.copy()
    for rows in trials.groups():
        x[rows] -= x[rows].mean(axis=0)
        y[rows] -= y[rows].mean()
    weights: Vector = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y).astype(np.float64)
    bias = float(np.mean(trials.ratio - scaled @ weights))
    return LearnedRanker("ridge", mean, scale, ({"w0": weights[:, None], "b0": np.array([bias])},))


def fit_networks(
    trials: Trials, seed: int = 0, settings: Settings | None = None, *, start: LearnedRanker | None = None
) -> LearnedRanker:
    """The ensemble; the same for the same trials and seed. ``start`` is one to go on from, with its scaling."""
    chosen = settings or Settings()
    mean, scale = _moments(trials) if start is None else (start.mean, start.scale)
    scaled = np.clip((trials.features - mean) / scale, -CLIP, CLIP)
    groups = [g for g in trials.groups() if len(g) > 1]
    if not groups:
        raise UsageError("no task has two trials: there is nothing to rank")
    members = []
    for number in range(chosen.members):
        rng = np.random.default_rng([seed, number])
        own = rng.permutation(len(groups))[: max(1, round(chosen.share * len(groups)))]
        first = _initial(scaled.shape[1], rng) if start is None else start.members[number % len(start.members)]
        sets = [(scaled[groups[n]], trials.ratio[groups[n]]) for n in sorted(own)]
        members.append(_train(dict(first), sets, rng, chosen))
    return LearnedRanker("lambdarank", mean, scale, tuple(members))


@dataclass(frozen=True)
class Comparison:
    """Scores of both kinds over seeds, and which one is worth shipping."""

    networks: tuple[Scores, ...]
    ridge: tuple[Scores, ...]

    @property
    def ships(self) -> str:
        """The networks, if their pairwise accuracy is better by :data:`MARGIN`."""
        gain = np.mean([s.pairwise for s in self.networks]) - np.mean([s.pairwise for s in self.ridge])
        return "lambdarank" if gain >= MARGIN else "ridge"

    def to_dict(self) -> dict[str, Any]:
        """Means over the seeds, with every seed's scores."""
        kinds = {"lambdarank": self.networks, "ridge": self.ridge}
        names = ("pairwise", "top1", "top5", "median_top1", "worst")
        means = {k: {n: float(np.mean([getattr(s, n) for s in v])) for n in names} for k, v in kinds.items()}
        return {"ships": self.ships, "mean": means, "seeds": {k: [s.to_dict() for s in v] for k, v in kinds.items()}}


def compare(trials: Trials, seeds: range = range(5), settings: Settings | None = None) -> Comparison:
    """Both kinds, trained and scored on splits by family."""
    networks, ridge = [], []
    for seed in seeds:
        train, test = split(trials, seed)
        networks.append(score(fit_networks(train, seed, settings).predict(test.features)[0], test))
        ridge.append(score(fit_ridge(train).predict(test.features)[0], test))
    return Comparison(tuple(networks), tuple(ridge))


def _moments(trials: Trials) -> tuple[Vector, Vector]:
    scale = trials.features.std(axis=0)
    return trials.features.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)


def _initial(width: int, rng: np.random.Generator) -> dict[str, Matrix]:
    sizes = (width, *WIDTHS, 1)
    found: dict[str, Matrix] = {}
    for n, (a, b) in enumerate(itertools.pairwise(sizes)):
        found[f"w{n}"] = rng.normal(0.0, np.sqrt(2.0 / a) * (0.1 if b == 1 else 1.0), (a, b))
        found[f"b{n}"] = np.zeros(b)
    return found


def _forward(member: Parameters, x: Matrix) -> list[Matrix]:
    """Values after each layer, the input first."""
    values, layers = [x], len(member) // 2
    for n in range(layers):
        z = values[-1] @ member[f"w{n}"] + member[f"b{n}"]
        values.append(np.maximum(z, 0.0) if n < layers - 1 else z)
    return values


def _backward(member: Parameters, values: list[Matrix], gradient: Matrix) -> dict[str, Matrix]:
    found: dict[str, Matrix] = {}
    for n in reversed(range(len(member) // 2)):
        found[f"w{n}"] = values[n].T @ gradient
        found[f"b{n}"] = gradient.sum(axis=0)
        if n:
            gradient = (gradient @ member[f"w{n}"].T) * (values[n] > 0)
    return found


def rank_gradient(said: Vector, ratio: Vector) -> Vector:
    """The gradient of LambdaRank with respect to what was said of one task, where lower is faster."""
    gain = np.exp2(ratio.min() - ratio)
    place = np.empty(len(said))
    place[np.argsort(said, kind="stable")] = np.arange(len(said))
    discount = 1.0 / np.log2(place + 2.0)
    ideal = float((np.sort(gain)[::-1] / np.log2(np.arange(len(gain)) + 2.0)).sum())
    swap = np.abs(gain[:, None] - gain[None, :]) * np.abs(discount[:, None] - discount[None, :]) / ideal
    faster = ratio[:, None] < ratio[None, :]
    force = np.where(faster, swap / (1.0 + np.exp(np.clip(said[None, :] - said[:, None], -40, 40))), 0.0)
    return np.asarray(force.sum(axis=1) - force.sum(axis=0))


def _train(
    member: dict[str, Matrix], sets: list[tuple[Matrix, Vector]], rng: np.random.Generator, settings: Settings
) -> Parameters:
    adam = _Adam(member)
    total = settings.epochs * len(sets)
    for turn in range(settings.epochs):
        for place, n in enumerate(rng.permutation(len(sets))):
            x, ratio = sets[n]
            values = _forward(member, x)
            said = values[-1][:, 0]
            huber = np.clip(said - ratio, -1.0, 1.0) / len(said)
            gradient = rank_gradient(said, ratio) + settings.huber * huber
            done = (turn * len(sets) + place) / total
            rate = settings.rate * 0.5 * (1 + np.cos(np.pi * done))
            adam.step(member, _backward(member, values, gradient[:, None]), rate, settings.decay)
    return member


class _Adam:
    """Adam with decoupled decay (Loshchilov and Hutter, 2019)."""

    def __init__(self, member: dict[str, Matrix]) -> None:
        self._first = {n: np.zeros_like(v) for n, v in member.items()}
        self._second = {n: np.zeros_like(v) for n, v in member.items()}
        self._times = 0

    def step(self, member: dict[str, Matrix], gradients: Parameters, rate: float, decay: float) -> None:
        """Moves the parameters."""
        self._times += 1
        for n, g in gradients.items():
            self._first[n] = 0.9 * self._first[n] + 0.1 * g
            self._second[n] = 0.999 * self._second[n] + 0.001 * g * g
            mean = self._first[n] / (1 - 0.9**self._times)
            spread = np.sqrt(self._second[n] / (1 - 0.999**self._times))
            member[n] = member[n] - rate * (mean / (spread + 1e-8) + decay * member[n])
