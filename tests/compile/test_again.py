"""Plans that verification turns down, and what takes their place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.planted import plant
from torch import nn

from tpopt._compile import build as stages
from tpopt.choose.careful import excess_terms
from tpopt.errors import VerificationFailed
from tpopt.report import VerificationRow

WRONG: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "scaled": lambda t: t * 1.01, "nan": lambda t: torch.where(t > t.mean(), t, float("nan")), "zero": torch.zeros_like
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_kernel_costs_itself_alone(how: str, compiled, monkeypatch, caplog):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12544, 32), nn.ReLU()).eval()
    x = torch.randn(4, 64, 16, 16)
    assert compiled(model, x, kernels="library").plan.count()["mkl"] == 1
    plant(monkeypatch, "mkl.linear", WRONG[how])
    made = compiled(model, x, kernels="library")
    assert (made.report.result.status, made.report.verification.passed) == ("optimized", True)
    assert made.plan.count()["onednn"] == 1
    assert "mkl" not in made.plan.count()
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-5, atol=1e-5)
    assert [r.message for r in caplog.records if "chosen again without its stage linear" in r.message]
    refused = [c.reason for row in made.report.choice for c in row.candidates if c.name.endswith(":mkl")]
    assert refused == ["a plan with it, or with less of the same in one kernel, gave a wrong value"]


def test_wrong_kernels_one_after_another_leave_the_originals(compiled, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(512, 512), nn.Tanh()) for _ in range(8)]).eval()
    assert compiled(model, torch.randn(64, 512), kernels="library").plan.count()["onednn"] == 8
    plant(monkeypatch, "onednn.linear", torch.zeros_like)
    made = compiled(model, torch.randn(64, 512), kernels="library")
    assert (made.report.result.status, made.report.verification.passed) == ("optimized", True)
    assert set(made.plan.count()) == {"original"}


def test_what_is_lost_in_long_sums_is_saved_twice_before_a_kernel_goes(compiled, monkeypatch, caplog):
    """The law of errors is an average: the first plan that spends less may still lose a little too much."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(c, d, 3, padding=1) for c, d in ((64, 96), (96, 64), (64, 48), (48, 64)))
    model, x = nn.Sequential(*layers).eval(), torch.randn(1, 64, 48, 48)
    spent = []

    def verified(attempt, *_):
        spent.append(sum(excess_terms(c, {}) for c in attempt.choice.solution.picked))
        passed = len(spent) > 2
        attempt.verification = VerificationRow(l2_rel=1e-6 if passed else 2.2e-6, tolerance=2e-6, passed=passed)
        if not passed:
            raise VerificationFailed("too much was lost")

    monkeypatch.setattr(stages, "verify_plan", verified)
    made = compiled(model, x, kernels="library")
    assert made.report.result.status == "optimized"
    assert spent[0] > spent[1] > spent[2] > 0
    assert "chosen again without" not in caplog.text
