"""What computes the float64 reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from verify.models import example, program

from tpopt.errors import UnsupportedInput
from tpopt.ir import DType, Opaque, Program, Symbol, index, tensor
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch
from tpopt.verify import reference
from tpopt.verify.reference import INTERPRETER, TORCH, Reference


def used(judge: Reference, times: int = 2) -> list[str]:
    for _ in range(times):
        judge(example())
    return list(judge.used)


def test_the_interpreter_begins_and_torch_goes_on():
    judge = Reference(program(), 60.0)
    assert used(judge, 1) == [INTERPRETER]
    assert used(judge, 1) == [INTERPRETER, TORCH]
    assert judge.notes == []


def test_they_compute_the_same():
    first, second = Reference(program(), 60.0)(example()), Reference(program(), 0.0)(example())
    torch.testing.assert_close(first, second, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("seconds", "judge"), [(60.0, INTERPRETER), (0.0, TORCH)])
def test_of_equal_values_those_count_that_torch_takes(seconds: float, judge: str):
    """The largest of a score that is zero nearly everywhere."""
    text = "program p(x: f32[200])\nv: f32[50], i: i64[50] = topk(x, k=50, axis=0, largest=true, sorted=true)\nreturn i"
    x = torch.zeros(200)
    x[5::9] = torch.rand(22)
    found = Reference(parse_program(text), seconds)
    assert torch.equal(found([x])[0], torch.topk(x, 50).indices)
    assert (list(found.used), found.notes) == ([judge], [])


def test_without_time_torch_alone_is_used():
    assert used(Reference(program(), 0.0)) == [TORCH]


def test_an_interpreter_that_is_too_slow_is_left(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(reference.time, "perf_counter", lambda: float(next(clock)))
    assert used(Reference(program(), 10.0)) == [TORCH]


def test_evaluators_that_disagree_are_told_of_and_the_interpreter_is_trusted(monkeypatch: pytest.MonkeyPatch):
    judge = Reference(program(), 60.0)
    wrong = to_torch(program(), dtype=torch.float64)
    wrong.weights["w"].mul_(1.001)
    monkeypatch.setattr(judge, "_double", wrong)
    assert used(judge) == [INTERPRETER]
    assert judge.notes[0].startswith("the interpreter and torch in double differ by ")


def test_a_defect_of_the_interpreter_leaves_torch(monkeypatch: pytest.MonkeyPatch):
    def fails(*_args: Any, **_options: Any) -> None:
        raise KeyError("k")

    monkeypatch.setattr(reference, "interpret", fails)
    judge = Reference(program(), 60.0)
    assert used(judge) == [TORCH]
    assert judge.notes == ["the interpreter failed (KeyError: 'k'), please report it"]


def test_an_index_out_of_bounds_raises_from_either():
    x, _ = example()
    for seconds in (60.0, 0.0):
        with pytest.raises(UnsupportedInput, match="ids"):
            Reference(program(), seconds)([x, torch.tensor([0, 3, 9, 3])])


def test_opaque_calls_run_in_double_in_both():
    n = Symbol("n", 1, 9)
    x = tensor("x", (n,), DType.F32)
    call = Opaque((tensor("y", (index(n) * 2,), DType.F32),), "aten.constant_pad_nd.default", (x, (0, index(n))))
    whole = Program("p", (x,), (), (call,), call.outs, symbols=(n,)).validate()
    given = [torch.tensor([1 / 3, 2 / 3])]
    for seconds in (60.0, 0.0):
        (found,) = Reference(whole, seconds)(given)
        assert found.tolist() == [given[0][0].item(), given[0][1].item(), 0.0, 0.0]
