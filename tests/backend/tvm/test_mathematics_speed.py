"""Nanoseconds for an element of the vector functions and of torch's, on one thread, in the first-level cache."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from support.ulp import kernel

from tpopt.measure import interleave

pytestmark = [pytest.mark.acceptance, pytest.mark.serial]
SIZE = 4096
TERMS = {name: f"{name}(x[i])" for name in "exp exp2 expm1 sigmoid tanh sinh cosh erf erfc sin cos tan".split()}
POSITIVE = {name: f"{name}(x[i])" for name in "log log2 log10 log1p rsqrt asinh atan".split()} | {
    "pow": "pow(x[i], 2.7:f32)"
}
UNIT = {name: f"{name}(x[i])" for name in "asin acos atanh".split()}
ABOVE_ONE = {"acosh": "acosh(x[i])", "focal": "log1p(exp(x[i]))"}
DOMAINS = [(TERMS, (-4.0, 4.0)), (POSITIVE, (0.01, 10.0)), (UNIT, (-0.99, 0.99)), (ABOVE_ONE, (1.0, 10.0))]
CASES = [(name, term, domain) for terms, domain in DOMAINS for name, term in terms.items()]
GAINS = {"exp": 1.3, "erf": 1.5, "log": 1.3, "rsqrt": 2.0, "erfc": 0.5}
"""What the ratio to torch must be; at least 1 for all others. erfc goes by float64."""


def eager(name: str, x: torch.Tensor, out: torch.Tensor) -> Callable[[], object]:
    if name == "pow":
        return partial(torch.pow, x, 2.7, out=out)
    if name == "focal":
        return lambda: torch.log1p(torch.exp(x))
    return partial(getattr(torch, name), x, out=out)


@pytest.mark.parametrize(("name", "term", "domain"), CASES, ids=[c[0] for c in CASES])
def test_no_slower_than_torch(
    name: str, term: str, domain: tuple[float, float], capsys: pytest.CaptureFixture[str], one_thread: None
):
    x = torch.empty(SIZE).uniform_(*domain, generator=torch.Generator().manual_seed(3))
    out = torch.empty(SIZE)
    timings = interleave(
        {"own": partial(kernel(term, size=SIZE).at((x,)), x, out), "torch": eager(name, x, torch.empty(SIZE))}, rounds=7
    )
    ratio = timings.ratio("torch", "own")
    nanoseconds = {n: timings.median(n) / SIZE * 1e9 for n in ("own", "torch")}
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {nanoseconds['own']:.2f} ns, torch {nanoseconds['torch']:.2f} ns, {ratio}\n")
    assert ratio.median >= GAINS.get(name, 1.0)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
