from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small import Cache, Nested, Perceptron, Residual
from torch import nn
from torch.utils import _pytree as pytree

import tpopt
from tpopt._compile import build
from tpopt.errors import GuardFailed, UnsupportedInput
from tpopt.runtime.compiled import MAX_BINDINGS


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., tpopt.CompiledModel]:
    """``tpopt.compile`` by the cost model, with neither race nor verification: the callable is what is tested."""

    def run(model: nn.Module, inputs: Any, **options: Any) -> tpopt.CompiledModel:
        torch.manual_seed(0)
        options = {"choice": "model", "gate": False, "verify": False, "records": tmp_path / "r.json"} | options
        made = tpopt.compile(model.eval(), inputs, **options)
        assert made.report.result.status == "optimized", made.report.result.reason
        return made

    return run


@pytest.fixture
def specialized(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of every plan that was made."""
    made: list[Any] = []
    whole = build.specialize

    def spy(attempt: Any, states: Any) -> Any:
        made.append([tuple(t.shape) for t in pytree.tree_leaves(attempt.args) if isinstance(t, torch.Tensor)])
        return whole(attempt, states)

    monkeypatch.setattr(build, "specialize", spy)
    return made


def agree(actual: Any, expected: Any) -> None:
    """Equal structures, and equal leaves up to rounding."""
    ours, theirs = pytree.tree_flatten(actual), pytree.tree_flatten(expected)
    assert ours[1] == theirs[1]
    for a, e in zip(ours[0], theirs[0], strict=True):
        if isinstance(e, torch.Tensor):
            torch.testing.assert_close(a, e, rtol=2e-5, atol=2e-5)
        else:
            assert (type(a), a) == (type(e), e)


def check(made: tpopt.CompiledModel, *args: Any, **kwargs: Any) -> None:
    with torch.no_grad():
        agree(made(*args, **kwargs), made.original(*args, **kwargs))


PAIR, OPTIONS = (torch.randn(3, 4), torch.randn(3, 4)), {"scale": 2.0, "name": "n"}


def test_containers_keywords_integers_and_none_go_in_and_out(compiled, specialized):
    made = compiled(Nested(), (PAIR,), kwargs={"options": OPTIONS, "extra": None})
    check(made, PAIR, options=OPTIONS, extra=None)
    check(made, (PAIR[1], PAIR[0]), options=dict(OPTIONS), extra=None)
    assert len(specialized) == 1


def test_keywords_may_come_in_any_order(compiled, specialized):
    made = compiled(Nested(), (PAIR,), kwargs={"options": OPTIONS, "extra": PAIR[0]})
    check(made, PAIR, extra=PAIR[1], options=OPTIONS)
    assert len(specialized) == 1


def test_one_tensor_given_twice_is_two_inputs(compiled, specialized):
    class Affine(nn.Module):
        def forward(self, x, scale, shift):
            return x * scale + shift

    x = torch.randn(3)
    made = compiled(Affine(), (x, x, x))
    check(made, x, torch.randn(3), torch.randn(3))
    assert len(specialized) == 1


def test_another_plain_value_is_another_plan(compiled, specialized):
    made = compiled(Nested(), (PAIR,), kwargs={"options": OPTIONS})
    for scale in (3.0, 2.0, 3.0):
        check(made, PAIR, options={"scale": scale, "name": "n"})
    assert len(specialized) == 2


def test_true_is_not_one(compiled, specialized):
    made = compiled(Nested(), (PAIR,), kwargs={"options": {"scale": 1, "name": 1}})
    check(made, PAIR, options={"scale": 1, "name": True})
    assert len(specialized) == 2


def test_another_structure_is_another_plan(compiled, specialized):
    made = compiled(Nested(), (PAIR,), kwargs={"options": OPTIONS})
    check(made, PAIR, options=OPTIONS, extra=PAIR[0])
    check(made, list(PAIR), options=OPTIONS)
    assert len(specialized) == 3


def test_declared_dimensions_need_one_plan(compiled, specialized):
    batch = torch.export.Dim("batch", min=1, max=64)
    made = compiled(Perceptron(), torch.randn(4, 16), dynamic_shapes={"x": {0: batch}})
    for n in (4, 2, 3, 64):
        check(made, torch.randn(n, 16))
    assert len(specialized) == 1


def test_too_many_shapes_run_the_original_and_say_so(compiled, specialized, monkeypatch, caplog):
    monkeypatch.setattr(build, "MAX_SPECIALIZATIONS", 2)
    made = compiled(Perceptron(), torch.randn(4, 16))
    with caplog.at_level(logging.WARNING, logger="tpopt"):
        for shape in ((4, 16), (2, 4, 16), (2, 2, 4, 16), (1, 2, 2, 4, 16)):
            check(made, torch.randn(shape))
    assert len(specialized) == 2
    assert [r.getMessage().partition(";")[0] for r in caplog.records if r.name == "tpopt"] == [
        "no plan fits inputs of shapes (2, 2, 4, 16)",
        "no plan fits inputs of shapes (1, 2, 2, 4, 16)",
    ]


def test_bound_plans_are_bounded_and_come_back(compiled):
    batch = torch.export.Dim("batch", min=1, max=64)
    made = compiled(Perceptron(), torch.randn(4, 16), dynamic_shapes={"x": {0: batch}})
    for n in (*range(2, MAX_BINDINGS + 9), 2, 4):
        check(made, torch.randn(n, 16))
    (special,) = made._run.specializations
    assert len(special._bound) == MAX_BINDINGS
    assert len(made._run._ready) <= MAX_BINDINGS


def test_inputs_of_other_strides_are_taken_as_they_are(compiled, specialized):
    made = compiled(Residual(), torch.randn(2, 3, 16, 16))
    x = torch.randn(2, 3, 16, 16)
    for given in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3), x[:1].expand(2, -1, -1, -1)):
        check(made, given)
    assert len(specialized) == 1
    assert len(made._run.specializations[0]._bound) == 4


def test_a_result_never_lies_in_an_input_whatever_its_strides(compiled):
    class Same(nn.Module):
        def forward(self, x):
            return x.contiguous(), x.reshape(-1)

    made = compiled(Same(), torch.randn(4, 6).t())
    x = torch.randn(6, 4)
    for result in made(x):
        result.zero_()
    assert x.abs().sum() > 0


class Views(nn.Module):
    """Results that are views of what is computed, one of which is asked for in order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.linear(x)
        return y.transpose(1, 2).contiguous(), x.transpose(0, 1), y[:, :, ::2], (y + 1)[:, 0].expand(3, -1, -1), y.mT


@pytest.mark.parametrize("kernels", ["library", "generated"])
def test_results_are_contiguous(kernels: str, compiled):
    made = compiled(Views(), torch.randn(2, 5, 6), kernels=kernels)
    for _ in range(2):  # the first call records, the second runs what it wrote
        x = torch.randn(2, 5, 6)
        results = made(x)
        agree(results, made.original(x))
        assert [r.stride() for r in results] == [r.contiguous().stride() for r in made.original(x)]
        assert len({r.untyped_storage().data_ptr() for r in results}) == len(results)
        assert results[0].view(-1).shape == (40,)


@pytest.mark.parametrize("kernels", ["library", "generated"])
def test_a_wanted_gradient_is_refused(kernels: str, compiled):
    made = compiled(Perceptron(), torch.randn(4, 16), kernels=kernels)
    x = torch.randn(4, 16, requires_grad=True)
    with pytest.raises(GuardFailed, match="input 0 requires a gradient"):
        made(x)
    for _ in range(3):  # the first call records, later ones run what it wrote
        with torch.no_grad():
            result = made(x)
        again = made(x.detach())
        assert not result.requires_grad
        assert torch.equal(result, again)
        assert (result * torch.ones(1, requires_grad=True)).requires_grad  # an inference tensor would refuse


def test_a_changed_weight_is_refused(compiled):
    model = Perceptron()
    made = compiled(model, torch.randn(4, 16))
    with torch.no_grad():
        model.up.weight.mul_(2)
    with pytest.raises(GuardFailed, match=r"weight up\.weight changed after compilation"):
        made(torch.randn(4, 16))


def test_a_changed_training_flag_is_refused(compiled):
    model = Perceptron()
    made = compiled(model, torch.randn(4, 16))
    model.train()
    with pytest.raises(GuardFailed, match="training flag changed"):
        made(torch.randn(4, 16))
    model.eval()
    check(made, torch.randn(4, 16))


@pytest.mark.parametrize("given", [torch.ones(4, 16, dtype=torch.float64), torch.ones(4, 16, device="meta")])
def test_a_wrong_type_or_device_is_refused(compiled, given: torch.Tensor):
    made = compiled(Perceptron(), torch.randn(4, 16))
    with pytest.raises(UnsupportedInput, match="input x: "):
        made(given)


def test_a_sparse_input_is_refused(compiled):
    made = compiled(Perceptron(), torch.randn(4, 16))
    with pytest.raises(UnsupportedInput, match=r"layout torch\.sparse_coo; pass a dense tensor"):
        made(torch.eye(4, 16).to_sparse())


def steps(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(1, 8), torch.tensor([k])) for k in range(count)]


def test_buffers_that_a_model_updates_belong_to_the_compiled_model(compiled):
    model = Cache()
    before, eager = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    made = compiled(model, steps(1)[0])
    for x, at in steps(6):
        with torch.no_grad():
            agree(made(x, at), eager(x, at))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert made._run._state.tensors["steps"].item() == 6


def test_two_plans_of_one_model_share_its_buffers(compiled, specialized):
    model = Cache()
    eager, made = copy.deepcopy(model), compiled(model, steps(1)[0])
    several = (torch.randn(3, 8), torch.tensor([7, 8, 9]))
    for x, at in (*steps(2), several, *steps(2)):
        with torch.no_grad():
            agree(made(x, at), eager(x, at))
    assert len(specialized) == 2


def test_the_original_continues_on_the_same_buffers_when_no_plan_fits(compiled, monkeypatch):
    monkeypatch.setattr(build, "MAX_SPECIALIZATIONS", 1)
    model = Cache()
    eager, made = copy.deepcopy(model), compiled(model, steps(1)[0])
    for x, at in (*steps(2), (torch.randn(3, 8), torch.tensor([7, 8, 9])), *steps(2)):
        with torch.no_grad():
            agree(made(x, at), eager(x, at))
    assert model.steps.item() == 0
    assert made._run._state.tensors["steps"].item() == 5


def test_an_input_that_a_model_updates_is_updated(compiled):
    class Updates(nn.Module):
        def forward(self, x):
            x.add_(1)
            return x * 2

    made = compiled(Updates(), torch.zeros(3))
    x = torch.zeros(3)
    assert made(x).tolist() == [2.0] * 3
    assert x.tolist() == [1.0] * 3


def test_calls_from_eight_threads_agree(compiled):
    made = compiled(Residual(), torch.randn(1, 3, 16, 16))
    inputs = [torch.randn(1 + k % 3, 3, 16, 16) for k in range(48)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(made, inputs))
    with torch.no_grad():
        expected = [made.original(x) for x in inputs]
    assert all(torch.allclose(a, e, rtol=2e-5, atol=2e-5) for a, e in zip(results, expected, strict=True))


def test_it_says_what_it_is(compiled):
    assert repr(compiled(Perceptron(), torch.randn(4, 16))) == "CompiledModel(Perceptron, optimized)"
