"""Jobs on local workers: each result once, in spite of crashes, hangs, hogs, dead workers and dead drivers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.behaviour import behave

from tpopt.errors import CorruptFile, JobFailed, UsageError
from tpopt.executors.campaign import Campaign
from tpopt.executors.drift import DriftCheck, Watch
from tpopt.executors.jobs import Job, Limits, Outcome
from tpopt.executors.ledger import Ledger
from tpopt.executors.local import LocalWorkers
from tpopt.executors.mapping import WorkersExecutor
from tpopt.protocols import Executor

QUICK = Limits(seconds=1.0, memory_bytes=256 << 20, grace_seconds=2.0)


def behaviours(**bad: str) -> list[Job]:
    return [Job(str(n), {"n": n, "how": bad.get(f"n{n}")}) for n in range(8)]


def run(campaign: Campaign, jobs: list[Job]) -> dict[str, Outcome]:
    found = list(campaign.run(behave, jobs))
    assert Counter(o.key for o in found) == Counter(j.key for j in jobs)
    return {o.key: o for o in found}


@pytest.fixture
def workers():
    made = LocalWorkers(2)
    yield made
    made.close()


def test_the_bad_are_named_and_quarantined_and_the_others_done(workers: LocalWorkers, tmp_path: Path):
    ledger = Ledger(tmp_path / "jobs.db", "a")
    found = run(Campaign(workers, QUICK, ledger), behaviours(n1="crash", n3="hang", n5="memory", n6="error"))
    kinds = {key: o.kind for key, o in found.items() if o.kind != "done"}
    assert kinds == {"1": "crash", "3": "timeout", "5": "memory", "6": "error"}
    assert {key: o.value for key, o in found.items() if o.kind == "done"} == {"0": 0, "2": 4, "4": 8, "7": 14}
    assert (found["1"].attempts, found["6"].attempts) == (2, 1)
    assert "signal 11" in found["1"].reason
    assert "no such thing" in found["6"].reason
    assert ledger.counts() == {"done": 4, "error": 1, "quarantined": 3}


def test_what_is_settled_is_not_run_again(workers: LocalWorkers, tmp_path: Path):
    jobs = [Job(str(n), {"n": n, "log": str(tmp_path / "log"), "how": "crash" if n == 1 else None}) for n in range(3)]
    first = run(Campaign(workers, QUICK, Ledger(tmp_path / "jobs.db", "a")), jobs)
    again = run(Campaign(workers, QUICK, Ledger(tmp_path / "jobs.db", "a")), jobs)
    assert Counter((tmp_path / "log").read_text().split()) == {"0": 1, "1": 2, "2": 1}
    assert {k: (o.kind, o.value) for k, o in first.items()} == {k: (o.kind, o.value) for k, o in again.items()}
    assert all(o.resumed for o in again.values())


def test_a_job_that_kills_its_workers_is_given_up(workers: LocalWorkers):
    limits = Limits(seconds=5.0, losses=3)
    found = run(Campaign(workers, limits), [Job("bad", {"how": "kill the worker"}), Job("good", {"n": 1})])
    assert (found["bad"].kind, found["bad"].attempts, found["good"].value) == ("lost", 3, 2)


DRIVER = """
import sys
from support.behaviour import behave
from tpopt.executors.campaign import Campaign
from tpopt.executors.jobs import Job, Limits
from tpopt.executors.ledger import Ledger
from tpopt.executors.local import LocalWorkers
folder = sys.argv[1]
jobs = [Job(str(n), {"n": n, "log": folder + "/log", "sleep": 0.1}) for n in range(40)]
workers = LocalWorkers(2)
outcomes = Campaign(workers, Limits(seconds=5.0), Ledger(folder + "/jobs.db", "a")).run(behave, jobs)
for outcome in outcomes:
    print(outcome.key, outcome.value, int(outcome.resumed), flush=True)
workers.close()
"""


def test_a_killed_driver_is_resumed_by_the_next(tmp_path: Path):
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        seen = [killed.stdout.readline().split()[0] for _ in range(10)]
        killed.kill()
    rest = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n")
    rows = [line.split() for line in rest if line]
    assert sorted(int(r[0]) for r in rows) == list(range(40))
    assert all(int(r[1]) == 2 * int(r[0]) for r in rows)
    assert set(seen) <= {r[0] for r in rows if r[2] == "1"}
    runs = Counter((tmp_path / "log").read_text().split())
    assert sum(runs.values()) <= 40 + 4, "only what was running when the driver died is run again"


def test_two_drivers_share_the_work(tmp_path: Path):
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    drivers = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for driver in drivers:
        out, _ = driver.communicate(timeout=60)
        assert sorted(int(line.split()[0]) for line in out.splitlines()) == list(range(40))
    assert Counter((tmp_path / "log").read_text().split()) == {str(n): 1 for n in range(40)}


def test_results_of_a_worker_that_drifts_are_taken_back(tmp_path: Path):
    """The clock file says what the reference takes; it doubles once, while the first results are provisional."""
    clock = tmp_path / "clock"
    clock.write_text("100")

    def reference(_: object) -> float:
        return float(clock.read_text())

    def task(item: int) -> float:
        log = tmp_path / "log"
        with log.open("a") as file:
            file.write(f"{item}\n")
        if item == 2 and clock.read_text() == "100":
            clock.write_text("200")
        return item

    workers = LocalWorkers(1)
    ledger = Ledger(tmp_path / "jobs.db", "a")
    campaign = Campaign(workers, QUICK, ledger, DriftCheck(reference, every=3))
    found = list(campaign.run(task, [Job(str(n), n) for n in range(5)]))
    workers.close()
    assert sorted(o.key for o in found) == list("01234")
    assert Counter((tmp_path / "log").read_text().split()) == {"0": 2, "1": 2, "2": 2, "3": 1, "4": 1}
    assert ledger.counts() == {"done": 5}


def test_a_reference_that_is_no_time_is_not_steady():
    watch = Watch(DriftCheck(lambda _: 1.0))
    assert [watch.steady("w", v) for v in (0.0, "x", 100.0, 109.0, 112.0)] == [False, False, True, True, False]


def test_the_executor_yields_in_order_and_goes_on_after_a_failure():
    with WorkersExecutor(LocalWorkers(2), QUICK) as executor:
        assert isinstance(executor, Executor)
        items = [{"n": 1, "sleep": 0.2}, {"how": "error"}, {"n": 3}]
        results = iter(executor.map(behave, items, seconds=5.0))
        assert next(results) == 2
        with pytest.raises(JobFailed, match="item 1: error after 1 attempts: ValueError: no such thing"):
            next(results)
        assert list(results) == [6]


def test_a_result_that_is_no_json_value_is_an_error(workers: LocalWorkers, tmp_path: Path):
    found = list(Campaign(workers, QUICK, Ledger(tmp_path / "jobs.db", "a")).run(lambda _: {1, 2}, [Job("a", None)]))
    assert found[0].kind == "error"
    assert "no JSON value" in found[0].reason


def test_two_jobs_with_one_key_are_refused(workers: LocalWorkers):
    with pytest.raises(UsageError, match="one key"):
        Campaign(workers).run(behave, [Job("a", {}), Job("a", {})])


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path):
    (tmp_path / "jobs.db").write_bytes(b"not a database, and long enough to be read as one" * 100)
    with pytest.raises(CorruptFile, match="no ledger of jobs"):
        Ledger(tmp_path / "jobs.db", "a")


@pytest.mark.parametrize("field", ["seconds", "memory_bytes", "strikes", "losses", "grace_seconds"])
def test_limits_are_positive(field: str):
    with pytest.raises(UsageError, match=f"{field}=0"):
        Limits(**{field: 0})
