from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tpopt.store.records import VERSION, Record, Records, default_path, fingerprint

ONE, TWO = Record(1.5, 1.0, 2.0, 7), Record(3.0, 2.5, 3.5, 7)


def saved(path: Path, machine: str = "here", **records: Record) -> Records:
    made = Records(path, machine)
    for key, record in records.items():
        made.put(key, record)
    made.save()
    return made


def test_what_was_saved_is_read_back(tmp_path: Path):
    path = tmp_path / "new folder" / "records.json"
    assert saved(path, a=ONE).get("a") == ONE
    assert Records(path, "here").get("a") == ONE
    assert Records(path, "here").get("b") is None


def test_machines_do_not_share_records(tmp_path: Path):
    path = tmp_path / "r.json"
    saved(path, "here", a=ONE)
    saved(path, "there", a=TWO)
    assert [Records(path, m).get("a") for m in ("here", "there", "nowhere")] == [ONE, TWO, None]


def test_two_writers_lose_nothing(tmp_path: Path):
    path = tmp_path / "r.json"
    first, second = Records(path, "here"), Records(path, "here")
    first.put("a", ONE)
    second.put("b", TWO)
    first.save()
    second.save()
    assert [Records(path, "here").get(k) for k in "ab"] == [ONE, TWO]


def test_many_writers_at_once_lose_nothing(tmp_path: Path):
    path = tmp_path / "r.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: saved(path, **{f"k{k}": Record(float(k), 0.0, 0.0, 3)}), range(1, 25)))
    assert [Records(path, "here").get(f"k{k}") for k in range(1, 25)] == [
        Record(float(k), 0.0, 0.0, 3) for k in range(1, 25)
    ]


def good() -> dict[str, Any]:
    return {"version": VERSION, "machines": {"here": {"a": {"us": 1.5, "low": 1.0, "high": 2.0, "rounds": 7}}}}


DAMAGED = {
    "nothing": "",
    "half a file": json.dumps(good())[:40],
    "another version": json.dumps({**good(), "version": VERSION + 1}),
    "a list": "[]",
    "no machines": json.dumps({"version": VERSION}),
    "a record too long": json.dumps(
        {**good(), "machines": {"here": {"a": {"us": 1, "low": 1, "high": 1, "rounds": 1, "x": 0}}}}
    ),
    "a record too short": json.dumps({**good(), "machines": {"here": {"a": {"us": 1}}}}),
    "text for a number": json.dumps(good()).replace("1.5", '"1.5"'),
    "no number": json.dumps(good()).replace("1.5", "NaN"),
    "less than nothing": json.dumps(good()).replace("1.5", "-1.5"),
    "no object": json.dumps({**good(), "machines": {"here": [1]}}),
    "deep": "[" * 100_000,
}


def test_the_good_file_of_these_tests_is_good(tmp_path: Path):
    (tmp_path / "r.json").write_text(json.dumps(good()))
    assert Records(tmp_path / "r.json", "here").get("a") == ONE


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_or_foreign_file_counts_as_empty_and_is_replaced(tmp_path: Path, kind: str):
    path = tmp_path / "r.json"
    path.write_text(DAMAGED[kind])
    assert Records(path, "here").get("a") is None
    saved(path, b=TWO)
    assert Records(path, "here").get("b") == TWO


def test_bytes_that_are_no_text_count_as_empty(tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert Records(path, "here").get("a") is None


def test_a_write_that_fails_leaves_the_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "r.json"
    saved(path, a=ONE)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    made = saved(path, b=TWO)
    assert made.get("b") == TWO
    monkeypatch.undo()
    assert [Records(path, "here").get(k) for k in "ab"] == [ONE, None]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.json.lock"]


def test_a_place_that_cannot_be_written_loses_nothing_but_the_file(tmp_path: Path):
    (tmp_path / "file").write_text("")
    made = saved(tmp_path / "file" / "r.json", a=ONE)
    assert made.get("a") == ONE


def test_the_same_records_are_the_same_bytes(tmp_path: Path):
    saved(tmp_path / "1.json", a=ONE, b=TWO)
    saved(tmp_path / "2.json", b=TWO, a=ONE)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_nothing_new_writes_nothing(tmp_path: Path):
    saved(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_the_shared_file_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "tpopt" / f"records-v{VERSION}.json"
    assert Records(None, "here").path == default_path()


@pytest.mark.parametrize(
    "other", [("cuda", 2, {"torch": "2.13"}), ("cpu", 4, {"torch": "2.13"}), ("cpu", 2, {"torch": "2.14"})]
)
def test_a_fingerprint_tells_devices_threads_and_versions_apart(other: tuple[str, int, dict[str, str]]):
    here = fingerprint("cpu", 2, {"torch": "2.13"})
    assert here == fingerprint("cpu", 2, {"torch": "2.13"})
    assert here != fingerprint(*other)


def test_a_pipe_keeps_no_records_and_stays_one(pipe: Path):
    saved(pipe, a=ONE)
    assert pipe.is_fifo()
    assert [p.name for p in pipe.parent.iterdir()] == ["pipe"]
