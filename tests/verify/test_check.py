"""A verification admits what computes the same, and names what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from verify.models import example, original, program, stages_of, with_weight

from tpopt.errors import UnsupportedInput, VerificationFailed
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch
from tpopt.rewrite.numerics import Numerics
from tpopt.verify import check, verify
from tpopt.verify.reference import INTERPRETER, TORCH

BOTH = f"{INTERPRETER}, then {TORCH}"
ALL = ("example", "normal seed 3", "normal seed 4", "strided", "large", "small", "zeros", "ones")


def checked(candidate: Any, **options: Any) -> Any:
    return check(original, candidate, program(), seed=3, example_inputs=example(), **options)


def test_what_computes_the_same_is_admitted_on_every_kind_of_inputs():
    result = checked(to_torch(program()))
    assert (result.passed, result.kinds, result.programs) == (True, ALL, 8)
    assert result.reference == BOTH
    assert result.l2_rel < 1e-6
    assert {r.name for r in result.rows} == {"y", "b"}


def test_the_original_itself_is_admitted_as_exact():
    assert checked(original, numerics=Numerics.EXACT).passed


def test_exact_admits_no_other_rounding():
    def nudged(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, b = original(*inputs)
        return torch.nextafter(y, y + 1), b

    result = checked(nudged, numerics=Numerics.EXACT)
    assert not result.passed
    assert result.rows[0].note == "20 elements differ"
    assert checked(nudged).passed


def test_without_time_for_the_interpreter_torch_is_the_reference():
    result = checked(to_torch(program()), interpreter_seconds=0.0)
    assert (result.passed, result.reference) == (True, TORCH)


def test_without_time_the_example_and_one_seed_are_tried():
    result = checked(to_torch(program()), seconds=0.0)
    assert result.kinds == ("example", "normal seed 3")
    assert result.notes[0] == "normal seed 4: not tried, the time is used up"


def test_a_weight_that_is_off_by_a_thousandth_is_caught_and_its_stage_named():
    wrong = with_weight("w", lambda w: w * 1.001)
    run = to_torch(program())
    stages = stages_of(lambda *i, on_stage: run(*i, weights={"w": run.weights["w"] * 1.001}, on_stage=on_stage))
    with pytest.raises(
        VerificationFailed, match=r"first stage to differ: stage h \(net\.py:7 h = e @ self\.w, encoder\)"
    ) as e:
        verify(original, wrong, program(), example_inputs=example(), stages=stages)
    assert "relative L2 error" in str(e.value)
    assert "What to do: compile with exclude=" in str(e.value)


def test_an_invented_nan_is_caught():
    def invents(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, b = original(*inputs)
        y[2, 1] = float("nan")
        return y, b

    result = checked(invents)
    assert [r.invented for r in result.rows if r.name == "y"] == [1] * 8
    assert "1 elements are NaN or infinite where the original and the reference are finite" in result.rows[0].note


def test_a_shifted_row_is_caught():
    result = checked(lambda x, ids: original(x, ids.roll(1)))
    assert not result.passed
    assert result.worst == "y"


def test_a_wrong_index_is_caught():
    result = checked(lambda x, ids: (original(x, ids)[0], (original(x, ids)[1] + 1) % 5))
    bad = next(r for r in result.rows if r.name == "b")
    assert (bad.mismatches, bad.passed) == (4, False)
    assert bad.note.startswith("4 elements differ, the first at [0]: ")


def test_overwritten_inputs_and_results_are_caught():
    kept = torch.empty(4, 5)

    def overwrites(x: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, b = original(x, ids)
        x.zero_()
        return kept.copy_(y), b

    notes = [r.note for r in checked(overwrites).rows]
    assert "the candidate overwrites its inputs x" in notes
    assert "results of an earlier call were overwritten by this one" in notes


def test_a_candidate_that_raises_fails():
    def raises(*_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise ValueError("no kernel")

    result = checked(raises)
    assert {r.note for r in result.rows} == {"the candidate raises ValueError: no kernel; the original does not"}


def test_another_dtype_fails():
    result = checked(lambda *inputs: (original(*inputs)[0].double(), original(*inputs)[1]))
    assert result.rows[0].note == "is torch.float64[4, 5], the original gives torch.float32[4, 5]"


def test_the_number_of_results_must_fit():
    with pytest.raises(UnsupportedInput, match=r"returned 3 tensors; the program has 2 outputs"):
        check(lambda *i: (*original(*i), i[0]), original, program(), example_inputs=example())


def test_a_program_that_is_not_the_model_is_the_translations_fault():
    other = program()
    stages = tuple(replace_text(other, s) for s in other.stages)
    with pytest.raises(
        VerificationFailed, match=r"output y: the traced program does not compute what the original model"
    ):
        check(original, original, other.with_stages(stages), example_inputs=example())


def replace_text(whole: Any, stage: Any) -> Any:
    """``x + table[…]`` becomes ``x - table[…]``."""
    text = str(whole).replace("x[i,k] + table", "x[i,k] - table")
    return parse_program(text).stages[whole.stages.index(stage)]


def test_strict_asks_for_the_originals_infinities():
    def finite(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, b = original(*inputs)
        return y.nan_to_num(0.5), b

    assert checked(finite).passed
    result = checked(finite, strict=True)
    assert result.kinds == (*ALL, "special")
    assert any(r.inputs == "special" and r.note.startswith("strict: ") for r in result.rows)


def test_state_that_a_program_overwrites_is_not_compared_unless_returned():
    stages = "y: f32[3] = L[i:3] x[i] + s[i]\nn: f32[3] = L[i:3] s[i] * 2.0"
    text = f"program p(x: f32[3], s: f32[3])\n{stages}\nreturn y, n\nalias 1 -> s"
    given = [torch.ones(3), torch.arange(3.0)]
    result = check(lambda x, s: x + s, lambda x, s: x + s, parse_program(text), example_inputs=given)
    assert {r.name for r in result.rows} == {"y"}


def test_half_precision_has_its_own_limits():
    text = "program p(x: bf16[64], w: bf16[64])\ny: bf16[] = L[] bf16(sum[i:64]{ f32(x[i]) * f32(w[i]) })\nreturn y"
    given = [torch.randn(64, generator=torch.Generator().manual_seed(n)).bfloat16() for n in (1, 2)]
    direct = lambda x, w: (x * w).float().sum().bfloat16()  # noqa: E731
    result = check(lambda x, w: (x.float() @ w.float()).bfloat16(), direct, parse_program(text), example_inputs=given)
    assert result.passed
    assert result.rows[0].limit == pytest.approx(2e-6 * 2**16)


def test_complex_outputs():
    program = parse_program("program p(x: c64[5])\ny: c64[5] = L[i:5] x[i] * conj(x[4-i])\nreturn y")
    given = [torch.randn(5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))]
    right = lambda x: x * x.flip(0).conj()  # noqa: E731
    assert check(right, right, program, example_inputs=given).passed
    assert not check(right, lambda x: right(x).conj(), program, example_inputs=given).passed


def test_the_result_prints_and_becomes_json():
    result = checked(with_weight("w", lambda w: w * 1.001))
    lines = str(result).splitlines()
    assert lines[0] == f"NOT VERIFIED (reassociating): 8 input sets against {BOTH}, seed 3"
    assert lines[1].split() == ["error", "eager", "allowed", "max", "abs", "inputs", "output", "note"]
    plain = json.loads(json.dumps(result.to_dict()))
    assert (plain["numerics"], plain["passed"], plain["rows"][0]["name"]) == ("reassociating", False, "y")


def test_the_certificate_is_the_same_every_time():
    first, second = (checked(to_torch(program())).certificate for _ in range(2))
    assert first == second
    assert " reassociating passed l2_rel=" in first
    assert replace(checked(original), certificate="").certificate == ""


SOFTMAX = """program p(x: f32[256,64])
m: f32[256] = L[i:256] max[j:64]{ x[i,j] }
e: f32[256,64] = L[i:256,j:64] exp(x[i,j] - m[i])
t: f32[256] = L[i:256] sum[j:64]{ e[i,j] }
y: f32[256,64] = L[i:256,j:64] e[i,j] / t[i]
return y
"""


def softmax(x: torch.Tensor) -> torch.Tensor:
    return x.softmax(-1)


@pytest.mark.parametrize(("off", "passes"), [(0.0, True), (0.5, False)])
def test_rounding_to_bf16_may_turn_a_decision_that_rounded_inputs_turn_too(off: float, passes: bool):
    def narrow(x: torch.Tensor) -> torch.Tensor:
        return softmax(x.bfloat16().float()) + off * (x.abs().max() > 100)  # wrong on large inputs, where told so

    given = {"numerics": Numerics.APPROXIMATE, "tolerance": 1e-2, "seed": 3}
    result = check(softmax, narrow, parse_program(SOFTMAX), example_inputs=[torch.randn(256, 64)], **given)
    (large,) = (r for r in result.rows if r.inputs == "large")
    assert large.l2_rel > 10 * 1e-2  # more than adversarial inputs are admitted otherwise
    assert (result.passed, large.passed) == (passes, passes)


def test_given_samples_take_the_place_of_made_up_inputs():
    samples = [example(), [t.clone() for t in example()]]
    result = checked(to_torch(program()), samples=samples)
    assert (result.passed, result.kinds) == (True, ("example", "sample 1"))
