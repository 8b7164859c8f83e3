"""Conversions between layouts: each is offered by the library and, for the processor, as a generated kernel."""

from __future__ import annotations

import pytest
import torch
from support.kernels import Wrapped

from tpopt._saved.again import _expanded
from tpopt.backend.binding import Binder
from tpopt.backend.generated.binding import build_all
from tpopt.backend.generated.candidates import is_generated
from tpopt.backend.operators import inference
from tpopt.backend.plan import Plan
from tpopt.choose.assemble import assemble
from tpopt.choose.candidate import CHANNELS_LAST, Candidates, Price, Value
from tpopt.choose.layouts import layout_candidates
from tpopt.choose.originals import original_candidates
from tpopt.frontend.trace import trace
from tpopt.runtime.executable import Executable
from tpopt.runtime.outprobe import OutProbe


def found(x: torch.Tensor, *, generate: bool) -> tuple[Candidates, Plan]:
    """The candidates of a ReLU, and its plan over channels-last by conversions that are generated, if they are."""
    program, offered = trace(Wrapped(lambda x: x.relu()), (x,)).original, Candidates()
    original_candidates(program, offered)
    layout_candidates(dict(program.tensors), offered, generate=generate)
    last = ":generated" if generate else ""
    wanted = (f"args_0:to-channels_last{last}", "relu:channels-last", f"relu:to-row-major{last}")
    picked = [c for c in offered.admitted if c.name in wanted]
    prices = {c.key: Price(1.0) for c in picked}
    return offered, assemble(program, picked, prices, frozenset({Value("args_0")}))


@pytest.mark.parametrize("shape", [(2, 21, 9, 7), (1, 48, 16, 16), (3, 3, 5, 5), (1, 1, 4, 4), (2, 40, 1, 1)])
@pytest.mark.parametrize("generate", [False, True], ids=["the library's", "generated"])
def test_a_plan_over_channels_last_computes_the_same(shape: tuple[int, ...], generate: bool):
    x = torch.randn(shape)
    _, plan = found(x, generate=generate)
    build_all(s.stage for s in plan.steps)
    run = Executable(plan, Binder({}), {}, OutProbe())
    for _ in range(2):  # the first call records, the second runs what was recorded
        with inference():
            (result,) = run([x])
        assert torch.equal(result, x.relu())
        assert result.is_contiguous()


def test_each_conversion_is_offered_twice_where_kernels_are_generated():
    x = torch.randn(2, 21, 9, 7)
    offered, _ = found(x, generate=True)
    conversions = [c for c in offered.admitted if c.converts]
    assert [c.name for c in conversions if is_generated(c)] == [
        f"{c.name}:generated" for c in conversions if not is_generated(c)
    ]
    assert {v.layout for c in conversions for v in (*c.needs, *c.produces)} == {"", CHANNELS_LAST}
    assert len({c.key for c in conversions}) == len(conversions) // 2  # both images are of one shape: equal kernels
    plain, _ = found(x, generate=False)
    assert not any(map(is_generated, plain.admitted))


@pytest.mark.parametrize("generate", [False, True], ids=["the library's", "generated"])
def test_the_algebra_of_a_plan_has_no_conversions(generate: bool):
    _, plan = found(torch.randn(2, 21, 9, 7), generate=generate)
    expanded = _expanded(plan.program).validate()
    assert [o.name for s in expanded.stages for o in s.outs] == ["relu"]
