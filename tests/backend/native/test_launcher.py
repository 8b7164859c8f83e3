from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tpopt.backend.native import compiled, launcher
from tpopt.backend.native.launcher import LauncherStatus, ensure_launcher, last_thread_count, launcher_status
from tpopt.backend.native.loading import load_kernel
from tpopt.errors import KernelBuildFailed

Kernels = Mapping[str, Path]


class Env(ctypes.Structure):
    _fields_ = (("sync_handle", ctypes.c_void_p), ("num_task", ctypes.c_int32))


LAMBDA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(Env), ctypes.c_void_p)
Task = Callable[[int, int], int]


class Symbols:
    """The functions that a kernel was given when it was loaded."""

    def __init__(self, parallel: Path, workspace: Path) -> None:
        load_kernel(parallel, "main")
        self.keep = load_kernel(parallel, "main"), load_kernel(workspace, "main")
        loop, space = ctypes.CDLL(str(parallel)), ctypes.CDLL(str(workspace))
        self._launch = ctypes.CFUNCTYPE(ctypes.c_int, LAMBDA, ctypes.c_void_p, ctypes.c_int)(
            self._address(loop, "__TVMBackendParallelLaunch")
        )
        self.alloc = ctypes.CFUNCTYPE(
            ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int
        )(self._address(space, "__TVMBackendAllocWorkspace"))
        self.free = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(
            self._address(space, "__TVMBackendFreeWorkspace")
        )

    def launch(self, task: Task, num_task: int) -> int:
        """Runs ``task(number, tasks)``."""
        return self._launch(LAMBDA(lambda number, env, _: task(number, env.contents.num_task)), None, num_task)

    @staticmethod
    def _address(library: ctypes.CDLL, name: str) -> int:
        return ctypes.c_void_p.in_dll(library, name).value or 0


@pytest.fixture(scope="module")
def symbols(kernels: Kernels) -> Symbols:
    return Symbols(kernels["parallel"], kernels["workspace"])


def collected(symbols: Symbols, num_task: int) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    assert symbols.launch(lambda number, tasks: seen.append((number, tasks)) or 0, num_task) == 0
    return sorted(seen)


def test_the_pool_is_the_one_of_torch(kernels: Kernels):
    status = launcher_status()
    assert status.kind == "shared"
    assert status.reason.startswith("parallel loops run on torch's threads (")
    assert launcher_status() is status


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_loop_uses_as_many_threads_as_torch_does(kernels: Kernels, threads: int):
    a, c = torch.ones(1 << 14), torch.zeros(1 << 14)
    kernel = load_kernel(kernels["parallel"], "main")
    torch.set_num_threads(threads)
    kernel(a, a, c)
    assert (last_thread_count(), c.sum().item()) == (threads, 2.0 * (1 << 14))


def test_what_torch_was_told_counts_in_other_threads_too(kernels: Kernels):
    a, c, counts = torch.ones(1 << 14), torch.zeros(1 << 14), []
    kernel = load_kernel(kernels["parallel"], "main")
    torch.set_num_threads(3)
    thread = threading.Thread(target=lambda: (kernel(a, a, c), counts.append(last_thread_count())))
    thread.start()
    thread.join()
    assert counts == [3]


def test_calls_from_four_threads_at_once_are_all_right(kernels: Kernels):
    torch.set_num_threads(2)
    kernel = load_kernel(kernels["parallel"], "main")

    def right(seed: int) -> bool:
        a, b, c = (torch.randn(1 << 14, generator=torch.Generator().manual_seed(seed + n)) for n in range(3))
        wanted = a + b
        for _ in range(50):
            kernel(a, b, c.zero_())
            if not torch.equal(c, wanted):
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(right, range(0, 32, 4))) == [True] * 8


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("num_task", [1, 2, 3, 7])
def test_every_task_that_was_asked_for_runs_once(symbols: Symbols, threads: int, num_task: int):
    torch.set_num_threads(threads)
    assert collected(symbols, num_task) == [(number, num_task) for number in range(num_task)]


@pytest.mark.parametrize(("threads", "tasks"), [(1, 1), (2, 16)])
def test_no_number_of_tasks_means_some_for_each_thread(symbols: Symbols, threads: int, tasks: int):
    torch.set_num_threads(threads)
    assert collected(symbols, 0) == [(number, tasks) for number in range(tasks)]


def test_threads_have_the_same_tasks_in_every_loop(symbols: Symbols):
    """The first half belongs to the thread that launches, from the first on; the other thread has the rest."""
    torch.set_num_threads(2)
    here = threading.get_ident()
    for _ in range(3):
        done: list[tuple[int, bool]] = []

        def task(number: int, _tasks: int, done: list[tuple[int, bool]] = done) -> int:
            time.sleep(0.03)
            done.append((number, threading.get_ident() == here))
            return 0

        assert symbols.launch(task, 0) == 0
        own = [number for number, mine in done if mine]
        assert own[:4] == [0, 1, 2, 3]
        assert [number for number, mine in done if not mine][:4] == [8, 9, 10, 11]


def test_what_a_thread_has_not_begun_is_taken_from_the_end(symbols: Symbols):
    torch.set_num_threads(2)
    here, others = threading.get_ident(), []

    def task(number: int, _tasks: int) -> int:
        if threading.get_ident() == here:
            time.sleep(1.0)
        else:
            others.append(number)
        return 0

    assert symbols.launch(task, 0) == 0
    assert others[:15] == [*range(8, 16), *range(7, 0, -1)]  # and 0, where this thread came too late for its first


def test_a_thread_that_is_slow_leaves_its_tasks_to_others(symbols: Symbols):
    torch.set_num_threads(2)
    slow, done = threading.get_ident(), []

    def task(_number: int, _tasks: int) -> int:
        if threading.get_ident() == slow:
            time.sleep(0.2)
        done.append(threading.get_ident() == slow)
        return 0

    assert symbols.launch(task, 0) == 0
    assert (done.count(True) <= 4, len(done)) == (True, 16)


def test_a_loop_in_a_loop_is_serial(symbols: Symbols):
    torch.set_num_threads(2)
    inner: list[tuple[int, int, bool]] = []

    def task(number: int, _tasks: int) -> int:
        thread = threading.get_ident()
        return symbols.launch(lambda n, tasks: inner.append((n, tasks, threading.get_ident() == thread)) or 0, 0)

    assert symbols.launch(task, 2) == 0
    assert inner == [(0, 1, True), (0, 1, True)]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_status_of_a_task_that_fails_is_returned(symbols: Symbols, threads: int):
    torch.set_num_threads(threads)
    assert symbols.launch(lambda number, _: -3 if number == 1 else 0, 4) == -3
    assert symbols.launch(lambda number, _: 0, 4) == 0


def test_workspace_is_aligned_kept_and_refused_elsewhere(symbols: Symbols):
    cpu, cuda = 1, 2

    def check() -> None:
        first, second = symbols.alloc(cpu, 0, 1000, 2, 32), symbols.alloc(cpu, 0, 1000, 2, 32)
        assert (first % 128, second % 128, first == second) == (0, 0, False)
        assert symbols.free(cpu, 0, first) == 0
        assert symbols.alloc(cpu, 0, 900, 2, 32) == first
        assert [symbols.free(cpu, 0, pointer) for pointer in (first, second)] == [0, 0]
        assert symbols.alloc(cuda, 0, 1000, 2, 32) is None
        assert symbols.alloc(cpu, 0, 2**64 - 1, 2, 32) is None

    with ThreadPoolExecutor(1) as fresh_thread:  # it has kept no block of an earlier kernel
        fresh_thread.submit(check).result()


def fresh(text: str, *args: str, **environment: str) -> str:
    head = "import sys, torch\nfrom pathlib import Path\nfrom tpopt.backend.native import launcher, loading\n"
    tail = """
torch.set_num_threads(2)
a, c = torch.ones(1 << 14), torch.zeros(1 << 14)
loading.load_kernel(Path(sys.argv[1]), "main")(a, a, c)
print(c.sum().item(), launcher.launcher_status().kind, launcher.last_thread_count(), end=" ")
"""
    command = [sys.executable, "-c", head + text + tail, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return done.stdout.strip()


def test_it_stays_torch_s_pool_where_tvm_is_imported_later(kernels: Kernels):
    text = "launcher.ensure_launcher()\nimport tvm\n"
    assert fresh(text, str(kernels["parallel"])) == "32768.0 shared 2"


def test_without_a_compiler_it_is_tvm_s_pool_and_a_passive_one(kernels: Kernels, tmp_path: Path):
    text = """
torch.set_num_threads(2)
status = launcher.launcher_status()
import os
print(os.environ["TVM_NUM_THREADS"], os.environ["TVM_THREAD_POOL_SPIN_COUNT"], os.environ["TVM_BIND_THREADS"], end=" ")
print("tvm" in sys.modules, "no C compiler" in status.reason, end=" ")
"""
    out = fresh(text, str(kernels["parallel"]), CC="", PATH="", XDG_CACHE_HOME=str(tmp_path))
    assert out == "2 0 0 False True 32768.0 passive 0"


def test_without_tvm_s_threads_either_kernels_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in (*launcher.PASSIVE, "TVM_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    status = launcher._start_passive("no compiler")
    assert status == LauncherStatus("none", "no compiler; and apache-tvm, whose threads would do, is not installed")
    monkeypatch.setattr(launcher, "launcher_status", lambda: status)
    with pytest.raises(KernelBuildFailed, match="generated kernels cannot run: no compiler; and apache-tvm"):
        ensure_launcher()


def compile_launcher() -> Path:
    return compiled.compiled(launcher.SOURCE, launcher.FLAGS, launcher.LIBRARIES)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "cache_folder", lambda name: tmp_path)
    return tmp_path


def test_it_is_compiled_once_and_again_where_the_file_is_damaged(kernels: Kernels, empty_cache: Path):
    path = compile_launcher()
    when = path.stat().st_mtime_ns
    assert (path.parent, compile_launcher().stat().st_mtime_ns) == (empty_cache, when)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert compile_launcher().stat().st_size == len(whole)


def test_what_the_compiler_said_is_in_the_error(kernels: Kernels, empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    (empty_cache / "launcher.c").write_text("int f( {")
    monkeypatch.setattr(launcher, "SOURCE", empty_cache / "launcher.c")
    with pytest.raises(KernelBuildFailed, match=r"does not compile the launcher: (?s:.*)error"):
        compile_launcher()
    assert list(empty_cache.glob("*.so")) == []


def test_two_threads_that_start_it_at_once_get_the_same(kernels: Kernels):
    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(lambda _: id(launcher_status()), range(8)))) == 1
