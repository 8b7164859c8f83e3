"""A driver of many jobs on a cluster, some of them poison."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import cloudpickle

from support import behaviour
from tpopt.executors.campaign import Campaign
from tpopt.executors.cluster import RayWorkers
from tpopt.executors.jobs import Job, Limits
from tpopt.executors.ledger import Ledger

POISON = ("crash", "hang", "memory")


def jobs_with_poison(count: int) -> list[Job]:
    """Jobs of 0.2 s of which every twentieth is poison."""
    hows = {n: POISON[n // 20 % 3] for n in range(7, count, 20)}
    return [Job(str(n), {"n": n, "sleep": 0.2, "how": hows.get(n)}) for n in range(count)]


def drive(address: str, folder: str, count: str) -> None:
    """Runs the jobs on a cluster, writes each outcome as a line, and prints the seconds that it took."""
    cloudpickle.register_pickle_by_value(behaviour)  # the nodes have tpopt, not its tests
    workers = RayWorkers(address)
    while len(workers.free()) < 1:
        workers.wait(0.1)
    started = time.monotonic()
    campaign = Campaign(workers, Limits(seconds=2.0, memory_bytes=256 << 20), Ledger(Path(folder) / "jobs.db", "fire"))
    with (Path(folder) / "outcomes.jsonl").open("a") as file:
        for outcome in campaign.run(behaviour.behave, jobs_with_poison(int(count))):
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
    sys.stdout.write(f"seconds {time.monotonic() - started}\n")
    workers.close()
