from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tpopt.backend.build import slot
from tpopt.backend.build.cache import KernelCache
from tpopt.backend.build.pool import BuildPool, BuildRequest
from tpopt.errors import KernelBuildFailed

Make = Callable[..., BuildRequest]


def test_a_request_becomes_a_file_with_metadata(pool: BuildPool, request_for: Make):
    built = pool.submit(request_for("x")).result()
    assert (built.path.read_bytes(), built.metadata, built.cached) == (b"code of x", b"meta of x", False)
    assert 0 < built.seconds < 20


def test_the_second_time_it_comes_from_the_cache_without_any_process(
    tmp_path: Path, pool: BuildPool, request_for: Make
):
    first = pool.submit(request_for("x")).result()
    with BuildPool(KernelCache(tmp_path / "kernels")) as other:
        again = other.submit(request_for("x")).result()
        assert (again.path, again.metadata, again.cached, other._zygote) == (first.path, b"meta of x", True, None)


def test_requests_for_one_key_are_built_once(tmp_path: Path, pool: BuildPool, request_for: Make):
    futures = [pool.submit(request_for(str(tmp_path), "count")) for _ in range(8)]
    assert {future.result().path for future in futures} == {futures[0].result().path}
    assert len(list(tmp_path.glob("call-*"))) == 1
    assert not futures[0].cancel()


def test_other_keys_are_built_apart(tmp_path: Path, pool: BuildPool, request_for: Make):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    for future in [pool.submit(request_for(str(folder), "count")) for folder in folders]:
        future.result()
    assert [len(list(folder.glob("call-*"))) for folder in folders] == [1, 1]


def test_an_exception_comes_back_with_its_text_and_its_trace(pool: BuildPool, request_for: Make):
    error = pool.submit(request_for("raise")).exception()
    assert isinstance(error, KernelBuildFailed)
    assert str(error).startswith("kernel ")
    assert str(error).endswith("was not built: ValueError: no such schedule\nin two lines")
    assert "in _raise" in error.__notes__[0]


@pytest.mark.parametrize(
    ("payload", "entry", "reason"),
    [
        ("exit", "build", "SystemExit: 3"),
        (
            "allocate",
            "build",
            "out of memory, its worker has 256 MiB; a kernel that needs more needs a pool with a larger",
        ),
        ("crash", "build", "its worker was killed by SIGSEGV, 2 times; please report it"),
        ("leave", "build", "its worker ended with exit code 7, 2 times; please report it"),
        ("x", "text", "support.build_entries:text returned str, expected bytes"),
        ("x", "nothing", "support.build_entries:nothing wrote nothing to .building-"),
        ("x", "absent", "AttributeError: module 'support.build_entries' has no attribute 'absent'"),
    ],
)
def test_a_fault_is_named_and_the_next_request_succeeds(
    pool: BuildPool, request_for: Make, payload: str, entry: str, reason: str
):
    error = pool.submit(request_for(payload, entry)).exception()
    assert isinstance(error, KernelBuildFailed)
    assert f"was not built: {reason}" in str(error)
    assert pool.submit(request_for("fine")).result().metadata == b"meta of fine"
    assert list(pool.cache.directory.glob(".building-*")) == []


def test_a_module_that_is_missing_is_named(pool: BuildPool):
    error = pool.submit(BuildRequest("support.nowhere:build", b"", "k")).exception()
    assert "ModuleNotFoundError: No module named 'support.nowhere'" in str(error)


def test_what_failed_is_tried_anew_when_it_is_asked_for_again(tmp_path: Path, pool: BuildPool, request_for: Make):
    folder = tmp_path / "later"
    assert "FileNotFoundError" in str(pool.submit(request_for(str(folder), "count")).exception())
    folder.mkdir()
    assert pool.submit(request_for(str(folder), "count")).result().cached is False


def test_a_crash_is_tried_once_more(tmp_path: Path, pool: BuildPool, request_for: Make):
    built = pool.submit(request_for(str(tmp_path / "mark"), "crash_once")).result()
    assert built.metadata == b"second attempt"


def test_forty_requests_of_which_one_in_twenty_fails_all_resolve(pool: BuildPool, request_for: Make):
    payloads = [{7: "crash:7", 31: "allocate:31"}.get(n, str(n)) for n in range(40)]
    futures = [pool.submit(request_for(payload)) for payload in payloads]
    errors = {payload: str(f.exception()) for payload, f in zip(payloads, futures, strict=True) if f.exception()}
    assert sorted(errors) == ["allocate:31", "crash:7"]
    assert "SIGSEGV" in errors["crash:7"]
    assert "out of memory" in errors["allocate:31"]


def test_it_works_beside_busy_threads_and_from_several(pool: BuildPool, request_for: Make):
    done, results = threading.Event(), []
    busy = [threading.Thread(target=lambda: [None for _ in iter(done.is_set, True)]) for _ in range(3)]
    asking = [
        threading.Thread(target=lambda n=n: results.append(pool.submit(request_for(f"{n}")).result().metadata))
        for n in range(8)
    ]
    for thread in (*busy, *asking):
        thread.start()
    for thread in asking:
        thread.join()
    done.set()
    for thread in busy:
        thread.join()
    assert sorted(results) == [f"meta of {n}".encode() for n in range(8)]


def test_a_worker_serves_many_requests_and_is_then_replaced(
    pool: BuildPool, request_for: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slot, "SERVED", 3)
    pids = [pool.submit(request_for(str(n), "pid")).result().metadata.split()[0] for n in range(12)]
    assert len(set(pids)) in {4, 5}  # two workers, three requests each, in any order


def test_a_worker_has_one_thread_no_input_and_no_voice(
    pool: BuildPool, request_for: Make, capfd: pytest.CaptureFixture[str]
):
    assert pool.submit(request_for("x", "surroundings")).result().metadata == b"'' 1"
    assert capfd.readouterr() == ("", "")


def test_a_cache_that_cannot_be_written_fails_the_future(tmp_path: Path, request_for: Make):
    (tmp_path / "file").write_text("in the way")
    with BuildPool(KernelCache(tmp_path / "file"), workers=1, modules=()) as pool:
        assert "was not built: FileExistsError" in str(pool.submit(request_for("x")).exception())


def test_after_closing_requests_fail_with_the_reason(pool: BuildPool, request_for: Make):
    pool.close()
    pool.close()
    assert "was not built: the build pool was closed" in str(pool.submit(request_for("x")).exception())


def test_closing_fails_what_is_under_way_and_what_waits(pool: BuildPool, request_for: Make):
    futures = [pool.submit(request_for(f"hang:{n}")) for n in range(4)]
    pool.close()
    assert ["the build pool was closed" in str(future.exception(timeout=0)) for future in futures] == [True] * 4


def test_it_can_be_closed_where_a_future_is_done(pool: BuildPool, request_for: Make):
    future, closed = pool.submit(request_for("x")), threading.Event()
    future.add_done_callback(lambda _: (pool.close(), closed.set()))
    assert future.result().metadata == b"meta of x"
    assert closed.wait(5)


def test_where_nothing_can_be_started_the_future_says_so(
    pool: BuildPool, request_for: Make, monkeypatch: pytest.MonkeyPatch
):
    def none_left() -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(socket, "socketpair", none_left)
    pool.warm()
    assert "build workers cannot be started: Too many open files" in str(pool.submit(request_for("x")).exception())
    monkeypatch.undo()
    assert pool.submit(request_for("x")).result().metadata == b"meta of x"


def test_a_forked_child_is_told_to_make_its_own(pool: BuildPool, request_for: Make):
    owner, pool._owner = pool._owner, os.getppid()
    error = pool.submit(request_for("x")).exception()
    pool._owner = owner
    assert "belongs to the process that this one was forked from" in str(error)


@pytest.mark.parametrize(
    ("module", "name", "reason"),
    [
        (os, "fork", "build workers need fork, which"),
        (socket, "send_fds", "build workers need fork, which"),
    ],
)
def test_where_the_system_cannot_fork_the_future_says_so(
    pool: BuildPool, request_for: Make, monkeypatch: pytest.MonkeyPatch, module: object, name: str, reason: str
):
    monkeypatch.delattr(module, name)
    assert reason in str(pool.submit(request_for("x")).exception())


def test_without_an_interpreter_the_future_says_so(pool: BuildPool, request_for: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "")
    assert "this process knows no Python interpreter" in str(pool.submit(request_for("x")).exception())
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert "/nonexistent/python cannot be started: " in str(pool.submit(request_for("x")).exception())
