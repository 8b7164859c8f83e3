"""Runs many jobs to the end on workers that may crash, hang, drift or go away, each result once."""

from __future__ import annotations

import json
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import cloudpickle

from tpopt.errors import LimitExceeded, UsageError
from tpopt.executors.drift import DriftCheck, Watch
from tpopt.executors.jobs import STRIKES, Answer, Call, Job, Limits, Outcome, Workers
from tpopt.executors.ledger import Ledger, Tally

LEASE_SECONDS: Final = 60.0
"""How long a lease outlives the longest that its job may take."""
POLL_SECONDS: Final = 0.5
NO_WORKER_SECONDS: Final = 120.0
"""How long a campaign waits for the first worker of a device, or for another when all have gone."""


@dataclass
class _Running:
    job: Job | None
    """None: the reference."""
    deadline: float


@dataclass
class Campaign:
    """A run of one task over many jobs.

    Attributes:
        workers: where jobs run.
        limits: of each job.
        ledger: keeps results (JSON values) over restarts; None keeps nothing, and results may be anything.
        drift: a reference whose time must not change; None checks nothing.
    """

    workers: Workers
    limits: Limits = field(default_factory=Limits)
    ledger: Ledger | None = None
    drift: DriftCheck | None = None

    def run(self, task: Callable[[Any], Any], jobs: Iterable[Job]) -> Iterator[Outcome]:
        """The outcome of every job, as they end; those that the ledger knows come first.

        An outcome is ``done``, or ``error``, or that of the last strike or loss of a job that is not tried again.
        Raises UsageError for two jobs with one key, LimitExceeded when no worker takes jobs for two minutes.
        """
        listed = list(jobs)
        if len({job.key for job in listed}) < len(listed):
            raise UsageError("two jobs have one key: equal keys mean equal work")
        return _Run(self, task, listed).outcomes()


class _Run:
    def __init__(self, campaign: Campaign, task: Callable[[Any], Any], jobs: list[Job]) -> None:
        self._workers, self._limits = campaign.workers, campaign.limits
        self._ledger, self._watch = campaign.ledger, Watch(campaign.drift)
        self._task = cloudpickle.dumps(task)
        self._reference = None if campaign.drift is None else cloudpickle.dumps(campaign.drift.reference)
        self._jobs = {job.key: job for job in jobs}
        self._waiting: deque[Job] = deque()
        self._elsewhere: dict[str, None] = {}
        self._running: dict[str, _Running] = {}
        self._provisional: dict[str, dict[str, Outcome]] = {}
        self._tallies: dict[str, Tally] = {}
        self._ready: deque[Outcome] = deque()
        self._last_seen = time.monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        yield from self._resumed()
        while self._waiting or self._running or self._elsewhere or self._provisional:
            self._fill()
            for slot, answer in self._workers.wait(POLL_SECONDS):
                self._heard(slot, answer)
            self._expire()
            self._ask_elsewhere()
            while self._ready:
                yield self._ready.popleft()
        while self._ready:
            yield self._ready.popleft()

    def _resumed(self) -> Iterator[Outcome]:
        known: dict[str, Outcome] = {}
        if self._ledger is not None:
            self._ledger.add(self._jobs)
            known = self._ledger.settled(self._jobs)
            self._tallies = self._ledger.tallies()
        self._waiting.extend(job for key, job in self._jobs.items() if key not in known)
        yield from known.values()

    def _fill(self) -> None:
        """Gives every free slot something to do."""
        free = self._workers.free()
        if free or self._running:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > NO_WORKER_SECONDS:
            raise LimitExceeded(
                f"no worker took a job for {NO_WORKER_SECONDS:g} s, {len(self._waiting)} jobs are left; start workers "
                "for their devices, and run the same again: what is done is not repeated"
            )
        for slot, device in free.items():
            if self._reference is not None and self._watch.due(slot, last=not self._waiting):
                self._start(slot, None)
            elif (job := self._next(device)) is not None:
                self._start(slot, job)

    def _next(self, device: str) -> Job | None:
        """The first job for a device that this process may take."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if job.device != device:
                self._waiting.append(job)
                continue
            lease = self._limits.seconds + self._limits.grace_seconds + LEASE_SECONDS
            if self._ledger is None or self._ledger.take(job.key, lease):
                return job
            self._elsewhere[job.key] = None
        return None

    def _start(self, slot: str, job: Job | None) -> None:
        limits = self._limits
        task = self._task if job is not None else self._reference or b""
        item = cloudpickle.dumps(None if job is None else job.item)
        if job is not None:
            tally = self._tallies.get(job.key, Tally())
            self._tallies[job.key] = replace(tally, attempts=tally.attempts + 1)
        self._running[slot] = _Running(job, time.monotonic() + limits.seconds + limits.grace_seconds)
        self._workers.start(slot, Call(task, item, limits.seconds, limits.memory_bytes))

    def _heard(self, slot: str, answer: Answer) -> None:
        running = self._running.pop(slot, None)
        if running is None:
            return
        if running.job is None:
            self._checked(slot, answer)
            return
        job, tally = running.job, self._tallies[running.job.key]
        outcome = Outcome(job.key, answer.kind, None, answer.reason, tally.attempts, slot)
        if answer.kind == "done":
            self._done(slot, self._with_value(outcome, answer.value))
        elif answer.kind == "error":
            self._settle(outcome, "error")
        else:
            self._failed(job, outcome, tally)
        if answer.kind == "lost":
            self._take_back(slot)

    def _with_value(self, outcome: Outcome, value: bytes) -> Outcome:
        found = pickle.loads(value)  # noqa: S301 - our own worker made it
        if self._ledger is not None:
            try:
                json.dumps(found, allow_nan=False)
            except (TypeError, ValueError) as error:
                return replace(outcome, kind="error", reason=f"the result is no JSON value: {error}")
        return replace(outcome, value=found)

    def _done(self, slot: str, outcome: Outcome) -> None:
        if outcome.kind == "done" and self._reference is not None:
            self._watch.count(slot)
            self._provisional.setdefault(slot, {})[outcome.key] = outcome
            if self._ledger is not None:
                self._ledger.finish(outcome, "provisional")
        else:
            self._settle(outcome, outcome.kind)

    def _failed(self, job: Job, outcome: Outcome, tally: Tally) -> None:
        """Tries again, or not: a job that fails by itself is quarantined sooner than one whose workers go away."""
        struck = outcome.kind in STRIKES
        tally = replace(tally, strikes=tally.strikes + struck, losses=tally.losses + (not struck))
        self._tallies[job.key] = tally
        if tally.strikes >= self._limits.strikes:
            self._settle(outcome, "quarantined")
        elif tally.losses >= self._limits.losses:
            self._settle(outcome, "lost")
        else:
            if self._ledger is not None:
                self._ledger.strike(job.key, outcome, tally)
            self._waiting.append(job)

    def _settle(self, outcome: Outcome, state: str) -> None:
        if self._ledger is None or self._ledger.finish(outcome, state):
            self._ready.append(outcome)
        else:  # another driver, whose lease had run out, was first
            self._ready.extend(self._ledger.settled([outcome.key]).values())

    def _expire(self) -> None:
        """Gives up slots that stay silent: their node may be gone without a word."""
        now = time.monotonic()
        for slot, running in list(self._running.items()):
            if running.deadline < now:
                self._workers.abandon(slot)
                self._heard(slot, Answer("lost", reason="the worker stayed silent"))

    def _checked(self, slot: str, answer: Answer) -> None:
        """Takes the results of a slot as good, or all since its last check back."""
        if answer.kind == "done" and self._watch.steady(slot, pickle.loads(answer.value)):  # noqa: S301 - ours
            kept = self._provisional.pop(slot, {})
            if self._ledger is not None:
                self._ledger.confirm(kept, good=True)
            self._ready.extend(kept.values())
            return
        self._workers.abandon(slot)
        self._take_back(slot)

    def _take_back(self, slot: str) -> None:
        taken: Mapping[str, Outcome] = self._provisional.pop(slot, {})
        self._watch.forget(slot)
        if self._ledger is not None and taken:
            self._ledger.confirm(taken, good=False)
        self._waiting.extend(self._jobs[key] for key in taken)

    def _ask_elsewhere(self) -> None:
        """Whether other drivers have finished what they leased; what they dropped is taken when it is free."""
        if self._ledger is None or not self._elsewhere or self._waiting:
            return
        for key, outcome in self._ledger.settled(self._elsewhere).items():
            del self._elsewhere[key]
            self._ready.append(outcome)
        self._waiting.extend(self._jobs[key] for key in self._elsewhere)
        self._elsewhere.clear()
