"""The tuning loop: an evolutionary search over the loops of a kernel, led by a ranker, inside a budget of seconds.

Each round proposes points near the best and at random, lets the ranker keep the most promising (some for their
uncertainty, some by lot), and measures them in worker processes, each against the schedule's own kernel. A winner is
measured again, with more rounds, and only one whose interval stays below the original is kept.

Sources: the outline of Ansor's search (Zheng et al., OSDI 2020, section 5).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from tpopt.backend.generated.decisions import Decision, Space, decode, encode
from tpopt.backend.generated.tuned import LEAST_GAIN, device
from tpopt.backend.tvm.tune.collect import measure
from tpopt.backend.tvm.tune.features import features
from tpopt.backend.tvm.tune.tasks import Task
from tpopt.cost_models.ranking import Ranker
from tpopt.errors import KernelUnsupported
from tpopt.executors.jobs import Workers
from tpopt.store.trials import Trial, Trials

POOL: Final = 192
"""Points that the ranker sees for each one that is measured in a round of eight: 24."""
BATCH: Final = 8
LOTS: Final = 0.25
"""Share of a batch drawn without asking the ranker: it may be wrong about a kernel unlike any that it saw."""
PATIENCE: Final = 3
"""Rounds without a better point after which a kernel is left."""
BETTER: Final = 0.02
CONFIRM_ROUNDS: Final = 15

Point = tuple[Decision, ...]


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one kernel.

    ``decisions`` is empty where nothing was surely better; ``ratio`` is the winner's time over that of the schedule's
    own, 1 where there is none, and ``high`` the upper end of its 95 % interval.
    """

    name: str
    kernel: str
    decisions: str
    ratio: float
    high: float
    base_us: float
    trials: int
    failed: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Tuner:
    """Tunes kernels on ``workers`` and keeps every trial in ``trials``. ``ranker`` None draws by lot.

    ``where`` names the device of the workers that measure.
    """

    workers: Workers
    trials: Trials
    ranker: Ranker | None = None
    seed: int = 0
    where: str = "cpu"
    tell: Callable[[Tuned], None] = field(default=lambda _: None)

    def tune(self, tasks: Sequence[Task], seconds: float) -> list[Tuned]:
        """What was found for each task; the time is shared evenly among those that are left.

        Trials of an earlier run count: what was stopped goes on. Raises nothing for a kernel that cannot be tuned.
        """
        ends, found = time.monotonic() + seconds, []
        for number, task in enumerate(tasks):
            share = (ends - time.monotonic()) / (len(tasks) - number)
            tuned = self._one(task, time.monotonic() + share)
            found.append(tuned)
            self.tell(tuned)
        return found

    def _one(self, task: Task, until: float) -> Tuned:
        try:
            space = task.request.space
        except KernelUnsupported:
            return Tuned(task.name, task.request.identity, "", 1.0, 1.0, 0.0, 0, 0)
        machine = device(task.request.processor)
        known = {t.decisions: t for t in self.trials.of(kernel=task.request.identity, device=machine)}
        rng = random.Random(f"{task.request.identity} {self.seed} {len(known)}")  # noqa: S311 - points, not secrets
        idle = 0
        while idle < PATIENCE and time.monotonic() < until:
            batch = self._propose(task, space, known, rng)
            if not batch:
                break
            before = _best_ratio(known)
            fresh = measure(self.workers, [(task, encode(p)) for p in batch], machine, self.where)
            self.trials.put(fresh)
            known |= {t.decisions: t for t in fresh}
            idle = 0 if _best_ratio(known) < before * (1 - BETTER) else idle + 1
        return self._confirmed(task, machine, known)

    def _propose(self, task: Task, space: Space, known: dict[str, Trial], rng: random.Random) -> list[Point]:
        good = sorted((t for t in known.values() if t.ratio), key=lambda t: (t.ratio or 0.0, t.decisions))[:8]
        parents = [decode(t.decisions) for t in good if t.decisions] or [space.start]
        pool: dict[Point, None] = {} if known else {p: None for p in [space.start] if space.fits(p)}
        for _ in range(4 * POOL):
            point = space.draw(rng) if rng.random() < 0.3 else space.near(rng.choice(parents), rng)
            if space.fits(point) and encode(point) not in known:
                pool[point] = None
            if len(pool) >= POOL:
                break
        points = list(pool)
        if self.ranker is None or len(points) <= BATCH:
            return points[:BATCH]
        said, spread = self.ranker.predict(features(task.request, points))
        order = [points[n] for n in np.argsort(said - 0.5 * spread, kind="stable")]
        chosen = order[: round(BATCH * (1 - LOTS))]
        return chosen + rng.sample(order[len(chosen) :], min(BATCH - len(chosen), len(order) - len(chosen)))

    def _confirmed(self, task: Task, machine: str, known: dict[str, Trial]) -> Tuned:
        """The best point if it is better once more: the best of many is partly luck."""
        failed = sum(t.status != "done" for t in known.values())
        base_us = next((t.us / t.ratio for t in known.values() if t.us and t.ratio), 0.0)
        nothing = Tuned(task.name, task.request.identity, "", 1.0, 1.0, base_us, len(known), failed)
        best = min((t for t in known.values() if t.ratio), key=lambda t: (t.ratio or 0.0, t.decisions), default=None)
        if best is None or (best.ratio or 1.0) > 1 - LEAST_GAIN:
            return nothing
        (again,) = measure(self.workers, [(task, best.decisions)], machine, self.where, CONFIRM_ROUNDS)
        self.trials.put([again])
        if again.ratio is None or again.high is None or again.high > 1 - LEAST_GAIN:
            return nothing
        return Tuned(
            task.name, task.request.identity, again.decisions, again.ratio, again.high, base_us, len(known), failed
        )


def _best_ratio(known: dict[str, Trial]) -> float:
    return min((t.ratio for t in known.values() if t.ratio), default=1.0)
