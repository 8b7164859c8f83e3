from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.small import Cache, Controlled, Perceptron, Residual, Transformer
from torch import nn

import tpopt
from tpopt._compile import build, door
from tpopt.errors import UnknownName, UsageError, VerificationFailed
from tpopt.report import VerificationRow

MODELS: dict[str, tuple[type[nn.Module], torch.Tensor]] = {
    "convolutions": (Residual, torch.randn(2, 3, 16, 16)),
    "a perceptron": (Perceptron, torch.randn(4, 16)),
    "attention": (Transformer, torch.randint(31, (1, 12))),
}


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("choice", ["model", "measured"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_compiled_verified_and_agrees(name: str, choice: str, compiled):
    torch.manual_seed(0)
    model, x = MODELS[name][0]().eval(), MODELS[name][1]
    made = compiled(model, x, choice=choice)
    with torch.no_grad():
        close(made(x), model(x))
    report = made.report
    assert (report.result.status, report.result.reason) == ("optimized", "not raced: gate=False")
    assert report.verification.passed
    assert report.verification.l2_rel <= report.verification.tolerance
    assert [k.name for k in report.kernels] == [s.name for s in made.plan.steps]
    assert report.opaque == ()
    assert report.work.macs_after <= report.work.macs_before
    assert report.memory.weights_bytes > 0


def test_a_compilation_leaves_the_model_and_the_random_numbers_as_they_were(compiled):
    model, x = Residual().eval(), MODELS["convolutions"][1].clone()
    model.head.train()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    wanted, versions = [p.requires_grad for p in model.parameters()], [p._version for p in model.parameters()]
    drawn, given = torch.get_rng_state(), x.clone()
    compiled(model, x, choice="measured", gate=True)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(x, given)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert [p._version for p in model.parameters()] == versions
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_model_that_draws_random_numbers_is_verified_and_draws_the_same(compiled):
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x) * torch.rand_like(x).sqrt()

    model, x = Noisy().eval(), torch.zeros(5, 7)
    made = compiled(model, x)
    assert made.report.result.status == "optimized", made.report.result.reason
    for _ in range(3):
        torch.manual_seed(3)
        expected = model(x)
        torch.manual_seed(3)
        torch.testing.assert_close(made(x), expected, rtol=2e-7, atol=0)  # a sum and its product are rounded once


@pytest.mark.parametrize("gate", [False, True])
def test_buffers_that_calls_update_stand_where_they_stood(gate: bool, compiled):
    model = Cache().eval()
    before, inputs = copy.deepcopy(model.state_dict()), (torch.randn(1, 8), torch.tensor([3]))
    made = compiled(model, inputs, choice="measured", gate=gate)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    if made.report.result.status == "optimized":
        assert made._run._state.tensors["steps"].item() == 0


def test_an_input_that_calls_update_is_given_back(compiled):
    class Updates(nn.Module):
        def forward(self, x):
            x.add_(1)
            return x * 2

    x = torch.zeros(3)
    compiled(Updates().eval(), x, choice="measured", gate=True)
    assert x.tolist() == [0.0] * 3


def test_inputs_that_want_gradients_are_examples_like_any_other(compiled):
    x = torch.randn(4, 16, requires_grad=True)
    made = compiled(Perceptron().eval(), x, choice="measured", gate=True)
    assert made.report.verification.passed


def test_a_model_that_export_refuses_runs_as_it_is_and_says_why(compiled):
    model, x = Controlled().eval(), torch.ones(3)
    made = compiled(model, x)
    assert made.report.result.status == "original"
    assert made.report.result.reason.startswith("torch.export refused Controlled: ")
    assert (made.plan, made.program) == (None, None)
    assert made(x).tolist() == [2.0] * 3
    assert made(-x).tolist() == [-2.0] * 3
    assert repr(made) == "CompiledModel(Controlled, original)"


def test_an_element_type_without_a_name_runs_as_it_is(compiled):
    x = torch.ones(3, dtype=torch.uint16)
    made = compiled(nn.Identity().eval(), x)
    assert made.report.result.status == "original"
    assert "torch.uint16 is not supported" in made.report.result.reason
    assert torch.equal(made(x), x)


def test_a_result_that_is_an_integer_read_from_data_runs_as_it_is(compiled):
    class Count(nn.Module):
        def forward(self, x):
            return x.nonzero().shape[0]

    made = compiled(Count().eval(), torch.ones(3))
    assert made.report.result.status == "original"
    assert made(torch.tensor([1.0, 0.0, 2.0])) == 2


def test_sizes_that_depend_on_data_are_served(compiled):
    class Picks(nn.Module):
        def forward(self, x):
            return torch.relu(x[x[:, 0] > 0] @ x.t()).sum(0)

    model = Picks().eval()
    made = compiled(model, torch.randn(9, 4), choice="measured")
    assert made.report.result.status == "optimized", made.report.result.reason
    for seed in range(4):
        x = torch.randn(9, 4, generator=torch.Generator().manual_seed(seed))
        close(made(x), model(x))


def test_an_operator_that_wants_such_a_size_runs_as_it_is_and_says_which(compiled):
    class Lines(nn.Module):
        def forward(self, x):
            found = x.nonzero()
            return torch.arange(found.shape[0]) + found[:, 0]

    made = compiled(Lines().eval(), torch.ones(3))
    assert made.report.result.status in ("original", "optimized")
    assert made(torch.tensor([1.0, 0.0, 2.0])).tolist() == [0, 3]


def fails(*_: Any) -> None:
    raise VerificationFailed("output y is wrong")


def test_a_plan_that_does_not_agree_is_not_handed_out(compiled, monkeypatch):
    monkeypatch.setattr(build, "verify_plan", fails)
    model, x = Perceptron().eval(), torch.randn(4, 16)
    made = compiled(model, x)
    assert (made.report.result.status, made.plan) == ("original", None)
    assert made.report.result.reason == "verification failed: output y is wrong"
    with torch.no_grad():
        assert torch.equal(made(x), model(x))


def judged(monkeypatch: pytest.MonkeyPatch, *errors: float, passing: bool = True) -> None:
    """Verification finds these errors one after the other; it admits 1e-6, and nothing at all unless ``passing``."""
    remaining = list(errors)

    def verify(attempt: Any, *_: Any) -> None:
        error = remaining.pop(0)
        passed = passing and error <= 1e-6
        attempt.verification = VerificationRow(programs=1, l2_rel=error, tolerance=1e-6, passed=passed)
        if not passed:
            raise VerificationFailed("output y is wrong")

    monkeypatch.setattr(build, "verify_plan", verify)


LONG = nn.Sequential(nn.Conv2d(128, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)).eval()
LARGE = torch.randn(2, 128, 48, 48)


def test_a_plan_that_loses_accuracy_is_chosen_again_with_less_to_spend(compiled, monkeypatch):
    judged(monkeypatch, 1.5e-6, 5e-7)
    made = compiled(LONG, LARGE)
    assert made.report.result.status == "optimized"
    reasons = {c.reason for row in made.report.choice for c in row.candidates if c.status == "lost"}
    assert reasons == {"another cover is cheaper over the whole program within what verification admits of accuracy"}


def test_the_last_choice_is_the_plan_of_originals(compiled, monkeypatch):
    judged(monkeypatch, 9e-6, 8e-6, 1e-7)
    assert set(compiled(LONG, LARGE).plan.count()) == {"original"}


def test_inputs_on_which_the_model_itself_fails_are_named_as_the_cause(compiled):
    made = compiled(Perceptron().eval(), torch.ones(4, 16, dtype=torch.int64), choice="measured")
    assert made.report.result.status == "original"
    assert made.report.result.reason.startswith(
        "the model's own operator linear fails on the example inputs: RuntimeError: "
    )


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("nested", [True, False])
def test_an_encoder_that_sets_padding_to_zero_is_named_as_the_cause(nested: bool, compiled):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 1, enable_nested_tensor=nested).eval(), torch.randn(2, 6, 16)
    padding = torch.arange(6).expand(2, 6) >= torch.tensor([[6], [4]])
    result = compiled(model, x, kwargs={"src_key_padding_mask": padding}).report.result
    assert result.status == ("original" if nested else "optimized")
    assert result.reason.endswith("build it with enable_nested_tensor=False") is nested


def test_a_failure_that_derivations_do_not_explain_is_final(compiled, monkeypatch):
    judged(monkeypatch, *[5e-7] * 4, passing=False)
    assert compiled(LONG, LARGE).report.result.reason == "verification failed: output y is wrong"


def test_a_plan_that_fails_on_inputs_of_other_kinds_is_chosen_again_without_what_it_derived(compiled, monkeypatch):
    assert compiled(LONG, LARGE).report.derivations
    verdicts = iter([False, True])

    def verify(attempt: Any, *_: Any) -> None:
        passed = next(verdicts)
        attempt.verification = VerificationRow(programs=8, l2_rel=5e-7, tolerance=1e-6, passed=passed)
        if not passed:
            raise VerificationFailed("output y on ones inputs is wrong")

    monkeypatch.setattr(build, "verify_plan", verify)
    made = compiled(LONG, LARGE)
    assert (made.report.result.status, made.report.derivations) == ("optimized", ())


def test_verification_is_on_unless_turned_off(compiled, monkeypatch):
    monkeypatch.setattr(build, "verify_plan", fails)
    made = compiled(Perceptron().eval(), torch.randn(4, 16), verify=False)
    assert made.report.result.status == "optimized"
    assert not made.report.verification.passed


def test_what_export_takes_apart_is_verified_up_to_rounding(compiled):
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x, y):
            return self.attention(x, y, y)

    model, inputs = Cross().eval(), (torch.randn(2, 10, 16), torch.randn(2, 17, 16))
    made = compiled(model, inputs)
    assert (made.report.result.status, made.report.verification.passed) == ("optimized", True)
    with torch.no_grad():
        close(made(*inputs), model(*inputs))


def interrupts(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_before_there_is_a_plan_gives_the_original(compiled, monkeypatch):
    monkeypatch.setattr(door, "build", interrupts)
    made = compiled(Perceptron().eval(), torch.randn(4, 16))
    assert made.report.result.reason == "interrupted before a verified program was ready"
    assert made.report.result.status == "original"


def test_a_defect_gives_the_original_a_warning_and_a_traceback_in_the_log(compiled, monkeypatch, caplog):
    monkeypatch.setattr(door, "race", divmod)
    model, x = Perceptron().eval(), torch.randn(4, 16)
    with pytest.warns(RuntimeWarning, match=r"TypeError in door.py, line \d+: .*; the original model runs"):
        made = compiled(model, x, gate=True)
    assert made.report.result.reason.startswith("a defect of tpopt: TypeError")
    assert torch.equal(made(x), model(x))
    assert caplog.records[-1].exc_info is not None


def stops(*_: Any) -> None:
    raise ZeroDivisionError("my own code")


class Stops:
    def __iter__(self) -> Iterator[torch.Tensor]:
        stops()
        yield torch.ones(1)


@pytest.mark.parametrize(
    "given",
    [{"progress": stops}, {"calibration": Stops(), "budget": tpopt.Budget(max_error=0.01)}],
    ids=["a callback", "data"],
)
def test_what_code_of_the_caller_raises_passes_through(given: dict[str, Any], compiled: Any):
    with pytest.raises(ZeroDivisionError, match="my own code"):
        compiled(Perceptron().eval(), torch.randn(4, 16), **given)


def test_an_interrupt_during_the_race_keeps_the_verified_plan(compiled, monkeypatch):
    monkeypatch.setattr(door, "race", interrupts)
    made = compiled(Perceptron().eval(), torch.randn(4, 16), gate=True)
    assert made.report.result.status == "optimized"
    assert made.report.result.reason.startswith("interrupted during the final race")


def test_progress_goes_forward_through_every_stage(compiled):
    seen: list[tuple[str, float]] = []
    compiled(Perceptron().eval(), torch.randn(4, 16), progress=lambda stage, done: seen.append((stage, done)))
    assert [stage for stage, _ in seen] == ["trace", "clean up", "choose", "verify", "race"]
    assert [done for _, done in seen] == sorted(done for _, done in seen)


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception]]] = {
    "model: expected a torch.nn.Module, got builtin_function_or_method": ((torch.relu, torch.ones(3)), {}, UsageError),
    "example_inputs: expected a tensor, or a tuple or list of inputs, got dict": ((nn.ReLU(), {}), {}, UsageError),
    "unknown pass or pipeline 'no-such-pass'": ((nn.ReLU(), torch.ones(3)), {"pipeline": "no-such-pass"}, UnknownName),
    "unknown option 'efort'; did you mean 'effort'": ((nn.ReLU(), torch.ones(3)), {"efort": 3}, UnknownName),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_an_error_that_names_it(message: str):
    arguments, options, error = WRONG[message]
    with pytest.raises(error) as raised:
        tpopt.compile(*arguments, **options)
    assert message in str(raised.value)


def kinds(made: tpopt.CompiledModel) -> dict[str, str]:
    return {s.stage.outs[0].name.removesuffix(".cl"): s.kind for s in made.plan.steps}


def test_operators_of_excluded_modules_stay_as_they_are(compiled):
    model, x = Residual().eval(), torch.randn(8, 3, 64, 64)
    pinned, free = compiled(model, x, exclude=("first",)), compiled(model, x)
    assert kinds(pinned)["conv2d_1"] == "original"
    assert kinds(free).get("conv2d_1") != "original"
    reasons = [c.reason for row in pinned.report.choice for c in row.candidates]
    assert "its module is excluded by option" in reasons
