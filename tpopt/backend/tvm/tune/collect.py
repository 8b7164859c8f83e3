"""Collects trials of drawn kernels for a cost model to learn from; stopped at any time, it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from tpopt.backend.generated.decisions import encode
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.generated.tuned import device
from tpopt.backend.tvm.tune.tasks import KINDS, Task, drawn
from tpopt.backend.tvm.tune.trial import ROUNDS, item, try_kernels
from tpopt.executors.campaign import Campaign
from tpopt.executors.jobs import Job, Limits, Workers
from tpopt.store.trials import Trial, Trials

LIMITS: Final = Limits(seconds=30.0, memory_bytes=3 << 30)
PART: Final = 8
"""Decisions that one process tries."""
BATCH: Final = 64
"""Trials between two looks at the clock."""


@dataclass(frozen=True)
class Progress:
    """What a collection has done: trials measured now, and those that failed."""

    measured: int
    failed: int


def collect(
    workers: Workers,
    trials: Trials,
    processor: Processor,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    seeds: Iterable[int] = range(12),
    each: int = 32,
    seconds: float = float("inf"),
    where: str = "cpu",
    tell: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Measures up to ``each`` decisions of every kind and seed, breadth first, and keeps them.

    No batch begins after ``seconds``. What is known already is not measured again.
    """
    began, measured, failed = time.monotonic(), 0, 0
    wanted = _wanted([drawn(k, s, processor) for s in seeds for k in kinds], trials, device(processor), each)
    while batch := list(islice(wanted, BATCH)):
        if time.monotonic() - began > seconds:
            break
        found = measure(workers, batch, device(processor), where)
        trials.put(found)
        measured += len(found)
        failed += sum(t.status != "done" for t in found)
        tell(Progress(measured, failed))
    return Progress(measured, failed)


def measure(
    workers: Workers,
    wanted: Sequence[tuple[Task, str]],
    machine: str,
    where: str = "cpu",
    rounds: int = ROUNDS,
    limits: Limits = LIMITS,
) -> list[Trial]:
    """The trials of some decisions, in the order of ``wanted``.

    A process tries several decisions of a kernel; where it does not survive them, each has a process of its own.
    """
    parts = _parts(wanted)
    found = _run(workers, parts, where, rounds, replace(limits, strikes=1))
    alone = [
        (task, [text]) for task, texts in parts if (task.request.identity, texts[0]) not in found for text in texts
    ]
    found |= _run(workers, alone, where, rounds, limits, last=True)
    return [_trial(task, text, machine, *found[task.request.identity, text]) for task, text in wanted]


_Found = dict[tuple[str, str], tuple[str, dict[str, Any]]]


def _parts(wanted: Sequence[tuple[Task, str]]) -> list[tuple[Task, list[str]]]:
    """A few decisions of one kernel each."""
    texts: dict[str, list[str]] = {}
    tasks = {task.request.identity: task for task, _ in wanted}
    for task, text in wanted:
        texts.setdefault(task.request.identity, []).append(text)
    return [(tasks[k], t[first : first + PART]) for k, t in texts.items() for first in range(0, len(t), PART)]


def _run(
    workers: Workers,
    parts: Sequence[tuple[Task, list[str]]],
    where: str,
    rounds: int,
    limits: Limits,
    *,
    last: bool = False,
) -> _Found:
    """How each decision ended, and its figures; parts that failed as a whole are left out but at the last try."""
    jobs = [Job(str(n), item(task.request, texts, rounds), where) for n, (task, texts) in enumerate(parts)]
    found: _Found = {}
    for outcome in Campaign(workers, limits).run(try_kernels, jobs):
        task, texts = parts[int(outcome.key)]
        if outcome.kind == "done":
            for text, value in zip(texts, outcome.value, strict=True):
                found[task.request.identity, text] = ("error" if "error" in value else "done", value)
        elif last:
            found[task.request.identity, texts[0]] = (outcome.kind, {"error": outcome.reason})
    return found


def _wanted(tasks: Sequence[Task], trials: Trials, device: str, each: int) -> Iterator[tuple[Task, str]]:
    """Decisions that were not tried, a few of every task before more of any."""
    known = {t.request.identity: trials.known(t.request.identity, device) for t in tasks}
    points = {t.request.identity: [encode(d) for d in t.request.space.sample(each, seed=0)] for t in tasks}
    for first in range(0, each, 8):
        for task in tasks:
            digest = task.request.identity
            yield from ((task, d) for d in points[digest][first : first + 8] if d not in known[digest])


def _trial(task: Task, decisions: str, machine: str, status: str, value: dict[str, Any]) -> Trial:
    figures: dict[str, Any] = {name: value.get(name) for name in ("us", "ratio", "low", "high")}
    fixed = (task.request.identity, decisions, machine, task.name, task.family, task.request.encode().decode())
    return Trial(*fixed, status, value.get("error", ""), **figures)


def request_of_trial(trial: Trial) -> KernelRequest:
    """The request that a record was made for, as this version of tpopt reads it."""
    return KernelRequest.decode(trial.request.encode())
