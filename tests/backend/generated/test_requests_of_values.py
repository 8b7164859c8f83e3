"""What is asked of the workers for operands that are known to lie in memory in another order."""

from __future__ import annotations

import pytest
import torch

from tpopt.backend.build.pool import build_pool
from tpopt.backend.generated.binding import IMPLEMENTATION, build_all, build_request, request_of
from tpopt.backend.generated.constants import CONSTANTS
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.ir import Compute, DType, Kernel, apply, iters, tensor

X, Y = tensor("x", (6, 5), DType.F32), tensor("y", (6, 5), DType.F32)
LOOPS = iters("i", (6, 5))
STAGE = Kernel((Y,), IMPLEMENTATION, (X,), (Compute((Y,), LOOPS, (apply("exp", X.at(LOOPS)),)),), ((CONSTANTS, ()),))


def test_a_value_that_is_not_contiguous_asks_for_other_code_than_one_that_is():
    dense, turned = torch.ones(6, 5), torch.ones(5, 6).t()
    plain = build_request(STAGE)
    assert plain is not None
    assert build_request(STAGE, {"x": dense, "z": turned}) == plain
    assert build_request(STAGE, {"x": turned}) == request_of(STAGE).strided({0: turned.stride()}).build()


def test_what_was_built_for_a_value_is_what_runs_on_it(monkeypatch: pytest.MonkeyPatch):
    turned = torch.randn(5, 6).t()
    assert build_all([STAGE], None, {"x": turned.to("meta")}) == frozenset()
    monkeypatch.setattr(build_pool(), "_start", lambda: pytest.fail("something is built that was built before"))
    assert torch.allclose(GeneratedKernel(request_of(STAGE), {})(turned), turned.exp())
