"""CUDA graphs without CUDA: a stand-in whose graphs replay what ran on them while they were captured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support.plans import bound

from tpopt.backend.binding import Binder
from tpopt.backend.operators import inference
from tpopt.backend.plan import Plan
from tpopt.runtime import compiled
from tpopt.runtime.compiled import Signature, Specialization
from tpopt.runtime.executable import Executable
from tpopt.runtime.graphs import WARM_UPS, Graphed, why_not_captured
from tpopt.runtime.guards import InputGuard

CUDA = torch.device("cuda")
X = torch.arange(6.0).view(2, 3)


class Stream:
    def __init__(self, cuda: Cuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_event(self, event: Event) -> None:
        self.cuda.log.append(f"{self.name} waits for {event.last}")

    def wait_stream(self, other: Stream) -> None:
        self.cuda.log.append(f"{self.name} waits for {other.name}")


class Event:
    last = "nobody"

    def record(self, stream: Stream) -> None:
        self.last = stream.name


class Graph:
    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def replay(self) -> None:
        for step in self.work:
            step()


class Cuda:
    """As much of ``torch.cuda`` as is used; ``error`` is what a capture ends with."""

    def __init__(self, error: str = "") -> None:
        self.log: list[str] = []
        self.error, self.now, self.capturing, self.foreign = error, "main", None, False
        self.Event, self.CUDAGraph = Event, Graph

    def Stream(self, device: torch.device) -> Stream:  # noqa: N802 - torch's name
        return Stream(self, "side")

    def current_stream(self, device: torch.device) -> Stream:
        return Stream(self, self.now)

    def is_current_stream_capturing(self) -> bool:
        return self.foreign

    def graph_pool_handle(self) -> str:
        return "a pool of its own"

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.now = self.now, stream.name
        yield
        self.now = before

    @contextmanager
    def graph(self, graph: Graph, *, pool: str, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        self.log.append(f"{stream.name} captures in {pool}")
        self.capturing = graph
        yield
        self.capturing = None
        if self.error:
            raise RuntimeError(self.error)


class Doubles(Executable):
    """Twice its input; while captured, nothing is computed before the replay."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.ran = cuda, []

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        self.ran.append(self.cuda.now if self.cuda.capturing is None else "capture")
        if self.cuda.capturing is None:
            return [inputs[0] * 2]
        out = torch.full_like(inputs[0], torch.nan)
        self.cuda.capturing.work.append(lambda: torch.mul(inputs[0], 2, out=out))
        return [out]


def graphed(error: str = "", reason: str | None = None) -> tuple[Graphed, Doubles, Cuda]:
    cuda = Cuda(error)
    executable = Doubles(cuda)
    return Graphed(executable, CUDA, reason, cuda), executable, cuda


def test_the_first_call_is_plain_the_second_captures_and_all_are_right():
    run, executable, cuda = graphed()
    for k in range(4):
        assert torch.equal(run([X + k])[0], (X + k) * 2)
    assert executable.ran == ["main", *["side"] * WARM_UPS, "capture"]
    assert cuda.log.count("side captures in a pool of its own") == 1


def test_the_side_stream_starts_after_the_copies_and_the_replay_after_the_warm_up():
    run, _, cuda = graphed()
    run([X])
    cuda.log.clear()
    run([X])
    assert cuda.log == [
        "main waits for main", "side waits for main", "main waits for side", "side captures in a pool of its own",
    ]  # fmt: skip


def test_results_are_the_callers_and_inputs_are_left_alone():
    run, _, _ = graphed()
    given = [X + k for k in range(4)]
    results = [run([x])[0] for x in given]
    assert all(torch.equal(r, (X + k) * 2) for k, r in enumerate(results))
    assert all(torch.equal(x, X + k) for k, x in enumerate(given))
    assert len({r.data_ptr() for r in results}) == 4


def test_the_copies_of_the_inputs_have_their_strides():
    run, _, _ = graphed()
    for _ in range(2):
        run([X.t()])
    assert [t.stride() for t in run._inputs] == [X.t().stride()]


def test_a_call_on_another_stream_waits_for_the_call_before():
    run, _, cuda = graphed()
    run([X])
    cuda.now = "other"
    run([X])
    cuda.now = "main"
    run([X])
    assert [line for line in cuda.log if line.endswith(("for nobody", "for main", "for other"))] == [
        "main waits for nobody", "other waits for main", "side waits for other", "main waits for other",
    ]  # fmt: skip


def test_what_cuda_refuses_to_capture_runs_plainly_and_the_log_says_why(caplog: pytest.LogCaptureFixture):
    run, executable, cuda = graphed(error="operation not permitted when stream is capturing\nmore")
    with caplog.at_level(logging.WARNING, logger="tpopt"):
        for k in range(4):
            assert torch.equal(run([X + k])[0], (X + k) * 2)
    assert caplog.messages == ["a plan runs without a CUDA graph: operation not permitted when stream is capturing"]
    assert executable.ran[-3:] == ["main"] * 3
    assert cuda.log.count("side captures in a pool of its own") == 1


def test_inputs_that_overlap_themselves_are_no_place_to_copy_to(caplog: pytest.LogCaptureFixture):
    run, _, cuda = graphed()
    with caplog.at_level(logging.WARNING, logger="tpopt"):
        for _ in range(3):
            assert run([X[:1].expand(4, 3)])[0].shape == (4, 3)
    assert len(caplog.messages) == 1
    assert "side captures in a pool of its own" not in cuda.log


def test_what_is_known_to_be_no_graph_is_never_tried(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="tpopt"):
        run, executable, _ = graphed(reason="it draws random numbers")
        for _ in range(3):
            run([X])
    assert caplog.messages == ["a plan runs without a CUDA graph: it draws random numbers"]
    assert executable.ran == ["main"] * 3


def test_inside_somebody_elses_capture_it_runs_plainly():
    run, executable, cuda = graphed()
    cuda.foreign = True
    for _ in range(3):
        run([X])
    assert executable.ran == ["main"] * 3
    assert cuda.log == []


def test_a_real_plan_goes_in_with_its_values_and_its_memory():
    plain = bound(lambda x: (x.t() + 1, x.relu()), X)
    run = Graphed(plain.executable, CUDA, backend=Cuda())
    with inference():
        for _ in range(3):
            assert [t.tolist() for t in run([X])] == [t.tolist() for t in plain.expected(X)]
        assert run.values([X])["relu"].tolist() == X.tolist()
    assert run.memory is plain.executable.memory


def plan(function: Callable[..., Any]) -> Plan:
    return bound(function, X).plan


def test_plans_that_a_graph_cannot_repeat_say_why():
    assert why_not_captured(plan(torch.relu), {}) is None
    assert why_not_captured(plan(torch.rand_like), {}) == (
        "aten.rand_like.default has effects, which a replay would not repeat"
    )
    assert why_not_captured(plan(torch.nonzero), {}) == "the shape of nonzero depends on data"


@pytest.mark.parametrize(("device", "kind"), [("cpu", Executable), ("cuda", tuple)])
def test_a_plan_is_graphed_on_cuda_alone(device: str, kind: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiled, "Graphed", lambda *given: given)
    made = plan(torch.relu)
    guard = InputGuard(made.program.inputs, torch.device(device))
    special = Specialization(made, Binder({}), Signature(None, None, (), (), ()), (), guard)
    assert type(special.bind({})) is kind
