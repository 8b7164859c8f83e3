from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tpopt.backend.build.cache import KernelCache
from tpopt.backend.build.pool import BuildPool, BuildRequest
from tpopt.backend.build.process import ending

Make = Callable[..., BuildRequest]
TESTS = str(Path(__file__).parents[2])
HEAD = f"""
import os, sys, signal, time
sys.path.insert(0, {TESTS!r})
from tpopt.backend.build.cache import KernelCache
from tpopt.backend.build.pool import BuildPool, BuildRequest, build_pool
def request(entry, payload, key): return BuildRequest("support.build_entries:" + entry, payload.encode(), key)
"""


def script(text: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HEAD + text, *args], stdout=subprocess.PIPE, text=True)


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids):
            return True
        time.sleep(0.02)
    return False


def kill_zygote(pool: BuildPool) -> None:
    zygote = pool._zygote
    assert zygote is not None
    assert zygote._process is not None
    zygote._process.send_signal(signal.SIGKILL)
    assert zygote._ended.wait(5)


def test_a_zygote_that_died_is_started_anew_and_a_second_one_is_not(pool: BuildPool, request_for: Make):
    pool.submit(request_for("a")).result()
    kill_zygote(pool)
    assert pool.submit(request_for("b")).result().metadata == b"meta of b"
    kill_zygote(pool)
    reason = (
        "the process that forks workers was killed by SIGKILL (by the system where memory is short) while it forked"
    )
    errors = [str(pool.submit(request_for(name)).exception()) for name in "cd"]
    assert [reason in error for error in errors] == [True, True]


def test_a_pool_has_settled_when_the_imports_are_done(tmp_path: Path):
    with BuildPool(KernelCache(tmp_path), workers=1, modules=["support.nowhere"]) as pool:
        pool.settle()  # nothing was started, and nothing is waited for
        assert pool._zygote is None
        pool.warm()
        pool.settle()
        assert pool._zygote is not None
        assert pool._zygote._ready


def test_a_zygote_that_dies_of_its_imports_has_settled_too(tmp_path: Path):
    with BuildPool(KernelCache(tmp_path), workers=1, modules=["support.dies_when_imported"]) as pool:
        pool.warm()
        pool.settle()
        assert pool._zygote is not None
        assert "while it imported support.dies_when_imported" in pool._zygote._failure


def test_a_zygote_that_dies_of_its_imports_fails_every_request_with_the_module(tmp_path: Path, request_for: Make):
    with BuildPool(KernelCache(tmp_path), workers=2, modules=["support.dies_when_imported"]) as pool:
        errors = [str(pool.submit(request_for(name)).exception()) for name in "ab"]
    reason = "the process that forks workers ended with exit code 9 while it imported support.dies_when_imported"
    assert [reason in error for error in errors] == [True, True]


def test_a_module_that_cannot_be_imported_is_the_business_of_the_request_that_needs_it(
    tmp_path: Path, request_for: Make
):
    with BuildPool(KernelCache(tmp_path), workers=1, modules=["support.nowhere"]) as pool:
        assert pool.submit(request_for("x")).result().metadata == b"meta of x"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers end at their next request")
def test_the_processes_die_with_the_user_s_process_even_where_a_fork_of_it_lives_on(tmp_path: Path):
    text = """
pool = BuildPool(KernelCache(sys.argv[1]), workers=1, modules=())
print(pool.submit(request("pid", "", "k")).result().metadata.decode(), flush=True)
if (child := os.fork()) == 0:  # holds copies of all sockets
    os.close(1)
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
pool.submit(request("build", "hang", "h"))
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = script(text, str(tmp_path))
    out, _ = done.communicate(timeout=30)
    worker, zygote, child = map(int, out.split())
    try:
        assert gone([worker, zygote])
        assert not gone([child], 0.1)
    finally:
        os.kill(child, signal.SIGKILL)


def test_closing_leaves_no_process(pool: BuildPool, request_for: Make):
    worker, zygote = map(int, pool.submit(request_for("x", "pid")).result().metadata.split())
    assert not gone([worker], 0.0)
    pool.close()
    assert gone([worker, zygote], 2.0)


def test_two_processes_that_build_one_key_at_once_both_get_it(tmp_path: Path):
    text = """
with BuildPool(KernelCache(sys.argv[1]), workers=2, modules=()) as pool:
    futures = [pool.submit(request("count", sys.argv[2], f"k{n}")) for n in range(4)]
    print([f.result().path.read_bytes() for f in futures])
"""
    running = [script(text, str(tmp_path / "kernels"), str(tmp_path)) for _ in range(2)]
    outs = [process.communicate(timeout=60)[0] for process in running]
    assert outs == [f"{[b'code'] * 4}\n"] * 2
    assert 4 <= len(list(tmp_path.glob("call-*"))) <= 8
    entries = sorted(path.name for path in (tmp_path / "kernels").iterdir() if path.name != ".lock")
    assert entries == sorted(f"k{n}{suffix}" for n in range(4) for suffix in (".so", ".meta"))


@pytest.mark.serial
def test_a_hang_ends_a_second_after_its_limit_at_most_and_others_go_on(tmp_path: Path, request_for: Make):
    with BuildPool(KernelCache(tmp_path), workers=2, modules=["support.build_entries"], timeout_s=1.0) as pool:
        pool.submit(request_for("x")).result()
        started = time.perf_counter()
        hanging = pool.submit(request_for("hang"))
        others = [pool.submit(request_for(str(n))) for n in range(10)]
        assert [other.result().metadata for other in others] == [f"meta of {n}".encode() for n in range(10)]
        assert time.perf_counter() - started < 1.0
        assert "was not built: timeout, no result after 1 s; a kernel that needs longer" in str(hanging.exception())
        assert 1.0 <= time.perf_counter() - started < 2.0
        assert pool.submit(request_for("y")).result().metadata == b"meta of y"


@pytest.mark.serial
def test_warming_up_does_not_wait_and_the_first_request_does(tmp_path: Path, request_for: Make):
    with BuildPool(KernelCache(tmp_path), workers=1, modules=["support.slow_to_import"], timeout_s=0.5) as pool:
        started = time.perf_counter()
        pool.warm()
        assert time.perf_counter() - started < 0.2
        assert pool.submit(request_for("x")).result().metadata == b"meta of x"
        assert time.perf_counter() - started > 1.0


@pytest.mark.serial
def test_the_interpreter_exits_while_a_request_hangs_and_while_imports_run(tmp_path: Path):
    text = """
pool = build_pool()
assert pool is build_pool()
if sys.argv[1] == "hang":
    pool.submit(request("build", "hang", "h"))
else:
    pool.warm()
print(time.time())
"""
    for what in ("hang", "warm"):
        process = script(text, what)
        out, _ = process.communicate(timeout=30)
        assert (process.returncode, time.time() - float(out) < 3.0) == (0, True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (by the system where memory is short)"),
        (-99, "was killed by signal 99"),
    ],
)
def test_an_exit_code_in_words(code: int, words: str):
    assert ending(code) == words
