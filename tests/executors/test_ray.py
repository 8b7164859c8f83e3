"""A real Ray cluster of several nodes on this machine, under fire."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.driving import jobs_with_poison

from tpopt.errors import UsageError
from tpopt.executors import cluster
from tpopt.executors.ledger import Ledger

RAY = importlib.util.find_spec("ray") is not None
NODES, SLOTS = 4, 2
DRIVER = """
import sys
from support.driving import drive
drive(*sys.argv[1:])
"""


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"tpopt\[cluster\]"):
        cluster.RayWorkers("127.0.0.1:1")


def test_a_device_needs_something():
    with pytest.raises(UsageError, match="positive amount"):
        cluster.RayWorkers("127.0.0.1:1", devices={"cpu": {}})


class Nodes:
    """A head without slots, and nodes that can be killed without a word."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_TMPDIR"] = str(folder)
        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.address: str = self._cluster.address
        self.nodes = [self.add() for _ in range(NODES)]
        self._cluster._shutdown_at_exit = False  # nodes that a thread adds may not ask for signals

    def add(self) -> Any:
        return self._cluster.add_node(num_cpus=SLOTS, wait=False)

    def kill_node(self) -> None:
        node = self.nodes.pop(0)
        self.nodes.append(self.add())
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_worker(self) -> None:
        """Kills the process of an actor: Ray's own worker, with the slot below it."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if any(part.startswith("ray::Agent") for part in process.cmdline()):  # not DashboardAgent
                    process.kill()
                    return

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def every(seconds: float, do: Callable[[], None]) -> Iterator[list[float]]:
    stop, done = threading.Event(), list[float]()

    def loop() -> None:
        while not stop.wait(seconds):
            do()
            done.append(time.monotonic())

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    yield done
    stop.set()
    thread.join()


def drive(address: str, folder: Path, count: int) -> float:
    """Seconds from the first result to the last of a driver in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", DRIVER, address, str(folder), str(count)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("seconds ")]  # Ray says things, too
    return float(said.split()[1])


def assert_complete(folder: Path, count: int) -> None:
    """Every job has one outcome, the right one: nothing lost, nothing twice."""
    rows = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    wanted = {j.key: j.item["how"] or "done" for j in jobs_with_poison(count)}
    assert Counter(row["key"] for row in rows) == Counter(wanted.keys())
    kinds = {"crash": "crash", "hang": "timeout", "memory": "memory", "done": "done"}
    assert {row["key"]: row["kind"] for row in rows} == {key: kinds[how] for key, how in wanted.items()}
    assert all(row["value"] == 2 * int(row["key"]) for row in rows if row["kind"] == "done")
    ledger = Ledger(folder / "jobs.db", "fire")
    bad = sum(how != "done" for how in wanted.values())
    assert ledger.counts() == {"done": count - bad, "quarantined": bad}


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory):
    made = Nodes(Path(tmp_path_factory.mktemp("r")))
    yield made
    made.close()


@pytest.mark.acceptance
@pytest.mark.serial
@pytest.mark.skipif(not RAY, reason="Ray is not installed: pip install 'tpopt[cluster]'")
def test_two_thousand_jobs_survive_poison_dead_workers_and_dead_nodes(nodes: Nodes, tmp_path: Path):
    count = int(os.environ.get("TPOPT_RAY_JOBS", "2000"))
    rooms = [tmp_path / name for name in ("quiet", "workers", "nodes")]
    for room in rooms:
        room.mkdir()
    quiet = drive(nodes.address, rooms[0], count)
    with every(10.0, nodes.kill_worker) as workers_killed:
        with_dead_workers = drive(nodes.address, rooms[1], count)
    with every(60.0, nodes.kill_node) as nodes_killed:
        with_dead_nodes = drive(nodes.address, rooms[2], count)
    figures = (
        f"quiet {quiet:.0f} s, {len(workers_killed)} workers killed {with_dead_workers:.0f} s, "
        f"{len(nodes_killed)} nodes killed {with_dead_nodes:.0f} s"
    )
    sys.stderr.write(f"{figures}\n")
    for room in rooms:
        assert_complete(room, count)
    assert workers_killed
    assert with_dead_workers <= 1.3 * quiet
    assert with_dead_nodes <= 1.5 * quiet


@pytest.mark.acceptance
@pytest.mark.serial
@pytest.mark.skipif(not RAY, reason="Ray is not installed: pip install 'tpopt[cluster]'")
def test_a_driver_that_is_killed_is_resumed_on_the_cluster(nodes: Nodes, tmp_path: Path):
    count = 200
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", DRIVER, nodes.address, str(tmp_path), str(count)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as driver:
        outcomes = tmp_path / "outcomes.jsonl"
        while not outcomes.exists() or len(outcomes.read_text().splitlines()) < 60:
            assert driver.poll() is None
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    outcomes.unlink()
    drive(nodes.address, tmp_path, count)
    assert_complete(tmp_path, count)
    rows = [json.loads(line) for line in outcomes.read_text().splitlines()]
    assert sum(row["resumed"] for row in rows) >= 55
