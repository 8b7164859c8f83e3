"""Writers that are killed, and many at once: a reader finds whole entries or none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from tpopt.backend.build.cache import KernelCache
from tpopt.store.archive import open_archive, write_archive
from tpopt.store.records import Record, Records

WRITER = """
import hashlib, sys
from pathlib import Path
from tpopt.backend.build.cache import KernelCache
from tpopt.store.archive import write_archive
from tpopt.store.records import Record, Records

folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache = KernelCache(folder / "kernels", max_bytes=4_000_000)
sys.stdout.write("ready\\n"); sys.stdout.flush()
for number in range(first, first + count):
    key = hashlib.sha256(str(number % 40).encode()).hexdigest()[:40]
    data = key.encode() * 5000
    written = cache.scratch(key)
    written.write_bytes(data)
    cache.put(key, written, key.encode(), 0.0)
    write_archive(folder / f"{number % 5}.tpg", {"manifest.json": key.encode() * 3000, "plan.txt": data})
    records = Records(folder / "records.json", "machine")
    records.put(key, Record(1.0, 1.0, 1.0, 1))
    records.save()
"""


def writer(folder: Path, first: int, count: int = 1_000_000) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(count)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def read_everything(folder: Path) -> int:
    """The number of entries; fails at one that is not whole."""
    found = 0
    cache = KernelCache(folder / "kernels")
    for number in range(40):
        key = sha256(str(number).encode()).hexdigest()[:40]
        built = cache.get(key)
        if built is not None:
            assert (built.path.read_bytes(), built.metadata) == (key.encode() * 5000, key.encode())
            found += 1
    for path in folder.glob("[0-9].tpg"):
        archive = open_archive(path)
        key = bytes(archive.read("manifest.json")[:40])
        assert (archive.read("manifest.json"), archive.read("plan.txt")) == (key * 3000, key * 5000)
        found += 1
    known = Records(folder / "records.json", "machine")
    assert (folder / "records.json").exists() is False or known.get("nothing") is None
    return found


def kill_writers(folder: Path, times: int) -> None:
    draw = random.Random(0)
    for number in range(times):
        started = writer(folder, 1000 * number)
        time.sleep(draw.uniform(0.0, 0.05))
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
        assert started.stdout is not None
        started.stdout.close()
        read_everything(folder)
    assert read_everything(folder) > 0
    (folder / "after.tpg").unlink(missing_ok=True)
    write_archive(folder / "after.tpg", {"manifest.json": b"{}"})  # no lock is left behind


def test_writers_that_are_killed_leave_whole_entries_or_none(tmp_path: Path):
    kill_writers(tmp_path, 8)


@pytest.mark.acceptance
def test_five_hundred_writers_that_are_killed(tmp_path: Path):
    kill_writers(tmp_path, 500)


@pytest.mark.parametrize("count", [4, pytest.param(32, marks=pytest.mark.acceptance)])
def test_writers_at_once(tmp_path: Path, count: int):
    started = [writer(tmp_path, 7 * n, 12) for n in range(count)]
    while any(p.poll() is None for p in started):
        read_everything(tmp_path)
    assert [p.returncode for p in started] == [0] * count
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
    assert read_everything(tmp_path) >= 12
    assert [p.name for p in tmp_path.iterdir() if ".tpg." in p.name] == []


def test_records_of_many_threads_are_all_kept(tmp_path: Path):
    def save(number: int) -> None:
        records = Records(tmp_path / "records.json", "machine")
        records.put(f"key{number}", Record(float(number), 0.0, 1.0, 3))
        records.save()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(32)))
    known = Records(tmp_path / "records.json", "machine")
    assert [known.get(f"key{n}") is not None for n in range(32)] == [True] * 32


@pytest.mark.parametrize("method", ["mkstemp", "fsync"])
def test_a_full_disk_costs_the_cache_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str):
    def full(*_: object, **__: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"tpopt.store.records.{'tempfile' if method == 'mkstemp' else 'os'}.{method}", full)
    records = Records(tmp_path / "records.json", "machine")
    records.put("key", Record(1.0, 1.0, 1.0, 1))
    records.save()
    assert records.get("key") is not None
    assert not (tmp_path / "records.json").exists()
