"""What tuning found is a candidate of compilation, beside the kernel as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tpopt
from tpopt._compile.tuning import tasks_of
from tpopt.backend.generated.candidates import candidates
from tpopt.backend.generated.decisions import encode
from tpopt.backend.generated.machine import host_processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.generated.tuned import device
from tpopt.backend.tvm.tune.tasks import Task
from tpopt.choose.candidate import Candidates
from tpopt.options import Options
from tpopt.store.trials import Trial, Trials


class Gate(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * y + x


ARGS = (torch.linspace(-2, 2, 96 * 80).reshape(96, 80), torch.ones(80))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path))
    return tmp_path


def known_winner(task: Task, ratio: float) -> str:
    """A record that says that some other way is better."""
    point = task.request.space.sample(2, seed=0)[1]
    text, machine = encode(point), device(host_processor())
    encoded = task.request.encode().decode()
    trials = Trials()
    trials.put([Trial(task.request.identity, text, machine, "n", "f", encoded, "done", "", 1.0, ratio, ratio, ratio)])
    trials.close()
    return text


def offered(program: object) -> list[str]:
    found = Candidates()
    candidates(program, found)  # type: ignore[arg-type]
    return [c.name for c in found.admitted]


def test_a_winner_is_offered_beside_the_kernel_as_it_was(own_cache: Path):
    (task, *_) = tasks_of(Gate(), ARGS, {}, Options(), 4)
    program = task.request.program
    before = offered(program)
    known_winner(Task("t", "f", KernelRequest.of(program, (), host_processor())), 0.5)
    after = offered(program)
    assert set(after) - set(before) == {n + ":tuned" for n in before if n == before[0]}
    assert set(before) < set(after)


def test_what_gained_too_little_is_not_offered(own_cache: Path):
    (task, *_) = tasks_of(Gate(), ARGS, {}, Options(), 4)
    known_winner(task, 0.99)
    assert not any(n.endswith(":tuned") for n in offered(task.request.program))


def test_a_model_is_compiled_with_it_saved_and_loaded(own_cache: Path, tmp_path: Path):
    for task in tasks_of(Gate(), ARGS, {}, Options(), 4):
        known_winner(task, 0.5)
    compiled = tpopt.compile(Gate(), ARGS, options=Options(choice="model", kernels="generated", gate=False))
    assert '"schedule"' in str(compiled.plan) or "schedule=" in str(compiled.plan)
    torch.testing.assert_close(compiled(*ARGS), Gate()(*ARGS), rtol=1e-5, atol=1e-5)
    compiled.save(tmp_path / "m.tpg")
    torch.testing.assert_close(tpopt.load(tmp_path / "m.tpg")(*ARGS), Gate()(*ARGS), rtol=1e-5, atol=1e-5)


def test_records_that_cannot_be_read_count_as_none(own_cache: Path):
    (own_cache / "trials-v1.db").write_bytes(b"garbage" * 1000)
    (task, *_) = tasks_of(Gate(), ARGS, {}, Options(), 4)
    assert not any(n.endswith(":tuned") for n in offered(task.request.program))


def test_decisions_that_do_not_fit_are_refused_and_the_rest_goes_on(own_cache: Path):
    (task, *_) = tasks_of(Gate(), ARGS, {}, Options(), 4)
    machine = device(host_processor())
    with_junk = Trial(task.request.identity, "[[7]]", machine, "n", "f", "{}", "done", "", 1.0, 0.1, 0.1, 0.1)
    trials = Trials()
    trials.put([with_junk])
    found = Candidates()
    candidates(task.request.program, found)
    assert any(c.name.endswith(":generated") for c in found.admitted)
    assert any("says no loops" in r.reason for r in found.refused)


def test_the_most_expensive_kernels_come_first():
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large = torch.nn.Linear(8, 8), torch.nn.Linear(8, 512)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.large(torch.relu(self.small(x)))

    tasks = tasks_of(Two().eval(), (torch.ones(64, 8),), {}, Options(), 100)
    assert "512" in tasks[0].request.text
    assert len({t.request for t in tasks}) == len(tasks)
    assert tasks_of(Two().eval(), (torch.ones(64, 8),), {}, Options(), 1)[0].request == tasks[0].request


def test_a_request_is_the_same_kernel_whoever_generates_it():
    (task, *_) = tasks_of(Gate(), ARGS, {}, Options(), 1)
    again = KernelRequest.decode(task.request.encode())
    assert (again, again.identity) == (task.request, task.request.identity)
    assert replace(again, decisions="[]").identity != again.identity
