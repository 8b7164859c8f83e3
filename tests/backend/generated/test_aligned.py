"""Stages that share loops which are not the first axes of their results."""

from __future__ import annotations

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.aligned import aligned
from tpopt.backend.generated.fuse import SCRATCH_BYTES
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import KernelPlan
from tpopt.backend.generated.planning import plan_kernel
from tpopt.errors import KernelUnsupported
from tpopt.ir import Compute

LAYERS = (
    "h: f32[{n},{m},{a},{b}] = L[n:{n},m:{m},a:{a},b:{b}] sum[c:5]{{ x[n,c,a,b] * w[m,c] }} + q[m]\n"
    "y: f32[{n},{o},{a},{b}] = L[n:{n},o:{o},a:{a},b:{b}] sum[m:{m}]{{ max(h[n,m,a,b], 0.0) * u[o,m] }}"
)
SIZES = {"n": 2, "m": 40, "o": 6, "a": 19, "b": 50}


def given(**sizes: int) -> dict[str, torch.Tensor]:
    s = {**SIZES, **sizes}
    torch.manual_seed(0)
    shapes = {"x": (s["n"], 5, s["a"], s["b"]), "w": (s["m"], 5), "q": (s["m"],), "u": (s["o"], s["m"])}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def plan(outs: str = "y", text: str = LAYERS, **sizes: int) -> KernelPlan:
    made = program(text.format(**{**SIZES, **sizes}), outs, **given(**sizes))
    return plan_kernel(made, frozenset(), Processor(threads=2))


def expected(x: torch.Tensor, w: torch.Tensor, q: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    hidden = torch.einsum("ncab,mc->nmab", x.double(), w.double()) + q.double()[:, None, None]
    return torch.einsum("nmab,om->noab", hidden.relu(), u.double()).float()


def test_a_row_is_a_line_of_pixels_with_all_its_channels():
    found = plan()
    assert [found.trips(i) for i in found.rows] == [2, 3]
    assert found.block == 8
    assert [t.shape for t in found.private] == [(2, 19, 40, 50)]
    assert found.steps == {"y": (6 * 19 * 50, 50, 19 * 50, 1)}
    (y,) = run(LAYERS.format(**SIZES), threads=2, **given())
    torch.testing.assert_close(y, expected(**given()), rtol=1e-5, atol=1e-5)


def test_rows_that_lie_first_stay_as_they_are():
    """All channels of one image are few enough to be kept."""
    found = plan(a=3, b=8)
    assert [i.extent for i in found.rows] == [2]
    assert found.steps == {}


def test_what_a_cache_holds_is_handed_on_through_memory():
    with pytest.raises(KernelUnsupported, match="stages would hand"):
        plan(n=1, m=16, a=20, b=60)


def test_a_line_that_is_too_long_to_be_kept_is_refused():
    with pytest.raises(KernelUnsupported, match="stages would hand"):
        plan(b=SCRATCH_BYTES // (40 * 4) + 8)


def test_layers_that_would_use_each_element_once_a_row_are_refused():
    """A window along both sides leaves the channels as rows: each would read all of the image for itself."""
    text = (
        "h: f32[2,40,19,50] = L[n:2,m:40,a:19,b:50] sum[c:5]{ x[n,c,a,b] * w[m,c] } + q[m]\n"
        "y: f32[2,18,40,48] = L[n:2,a:18,m:40,b:48] sum[r:2,s:3]{ h[n,m,a+r,b+s] * u[r+s,m] }"
    )
    made = program(text, "y", **given())
    stages = [s for s in made.stages if isinstance(s, Compute)]
    assert aligned(stages, made.outputs, SCRATCH_BYTES) is None
