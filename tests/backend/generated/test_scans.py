"""Loops that carry a state, as one kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.generated import program, run
from support.kernels import Wrapped
from torch import nn

import tpopt
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.planning import plan_kernel
from tpopt.errors import KernelUnsupported
from tpopt.ir.to_torch import to_torch

ONE = Processor(vector_bytes=64, registers=32, threads=2)

CLOSE = 3e-6

CELL = """
last: f32[{n},{h}], every: f32[{t},{n},{h}] = scan[t:{t}](init=[a], xs=[x], captures=[w]) {{
  program step(s: f32[{n},{h}], g: f32[{n},{h}], v: f32[{h},{h}])
  p: f32[{n},{h}] = L[i:{n},j:{h}] sum[k:{h}]{{ s[i,k] * v[j,k] }}
  q: f32[{n},{h}] = L[i:{n},j:{h}] tanh(p[i,j] + g[i,j])
  return q, q
}}
"""


def drawn(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    scale = {n: max(s, default=1) ** -0.5 if n == "w" else 0.5 for n, s in shapes.items()}
    return {n: torch.randn(s, generator=made) * scale[n] for n, s in shapes.items()}


def error(
    body: str, outs: str, given: dict[str, torch.Tensor], constants: tuple[str, ...] = (), threads: int = 1
) -> float:
    """The largest relative L2 error of the kernel's results against its algebra in float64."""
    exact = to_torch(program(body, outs, **given), dtype=torch.float64)(*given.values())
    found = run(body, outs, constants, threads, **given)
    pairs = [(got.double(), want) for got, want in zip(found, exact, strict=True)]
    return max(float((got - want).norm() / want.norm()) for got, want in pairs)


@pytest.mark.parametrize("constants", [(), ("w",)], ids=["the matrix varies", "the matrix is packed"])
@pytest.mark.parametrize(("t", "n", "h"), [(1, 1, 16), (2, 3, 5), (7, 2, 24), (8, 5, 33), (5, 1, 96)])
def test_a_state_goes_from_step_to_step(t: int, n: int, h: int, constants: tuple[str, ...]):
    given = drawn(a=(n, h), x=(t, n, h), w=(h, h))
    assert error(CELL.format(t=t, n=n, h=h), "last, every", given, constants) <= CLOSE


@pytest.mark.parametrize(
    ("t", "n", "h", "blocks", "parallel"),
    [(9, 64, 128, 2, 1), (6, 6, 16, 2, 0), (3, 50, 150, 2, 1), (4, 84, 200, 4, 1)],
    ids=["a block a thread", "little work", "25 rows", "two blocks a thread"],
)
def test_rows_that_know_nothing_of_each_other_run_in_blocks(t: int, n: int, h: int, blocks: int, parallel: int):
    body, given = CELL.format(t=t, n=n, h=h), drawn(a=(n, h), x=(t, n, h), w=(h, h))
    plan = plan_kernel(program(body, "last, every", **given), frozenset({"w"}), ONE)
    assert [i.extent for i in plan.rows] == [blocks, t]
    assert plan.parallel == parallel
    assert error(body, "last, every", given, ("w",), threads=2) <= CLOSE


@pytest.mark.parametrize(
    ("t", "n", "h"),
    [(3, 16, 800), (2, 40, 768), (4, 1, 700), (5, 7, 300)],
    ids=["a large matrix", "more than lies on a stack", "a single row", "rows that make no equal blocks"],
)
def test_threads_share_the_steps(t: int, n: int, h: int):
    body, given = CELL.format(t=t, n=n, h=h), drawn(a=(n, h), x=(t, n, h), w=(h, h))
    plan = plan_kernel(program(body, "last, every", **given), frozenset({"w"}), ONE)
    assert (plan.rows[0].extent, plan.parallel) == (1, 0)
    product = max(plan.nests, key=lambda nest: nest.cycles)
    assert product.parallel or product.shares > 1
    assert product.divided is None or product.divided in product.order  # the steps themselves are nobody's share
    assert error(body, "last, every", given, ("w",), threads=2) <= CLOSE


def test_rows_that_a_step_mixes_stay_together():
    body = """
    last: f32[8,6], y: f32[4,8,6] = scan[t:4](init=[a], xs=[x], captures=[]) {
      program step(s: f32[8,6], g: f32[8,6])
      next: f32[8,6] = L[i:8,j:6] s[(i+1)%8,j] * 0.5 + g[i,j]
      return next, next
    }
    """
    given = drawn(a=(8, 6), x=(4, 8, 6))
    assert plan_kernel(program(body, "last, y", **given), frozenset(), ONE).rows[0].extent == 1
    assert error(body, "last, y", given, threads=2) <= CLOSE


def test_guards_and_places_count_rows_of_the_whole():
    body = """
    last: f32[8,5], y: f32[3,8,5] = scan[t:3](init=[a], xs=[x], captures=[w]) {
      program step(s: f32[8,5], g: f32[8,5], v: f32[8,5])
      next: f32[8,5] = L[i:8,j:5] select(2 <= i < 7, s[i,j] * v[i,j], f32(i)) + g[i,j] * v[7-i,j]
      return next, next
    }
    """
    given = drawn(a=(8, 5), x=(3, 8, 5), w=(8, 5))
    assert plan_kernel(program(body, "last, y", **given), frozenset(), ONE).rows[0].extent == 2
    assert error(body, "last, y", given, threads=2) <= CLOSE


def test_states_may_change_places():
    body = """
    m: f32[4,8], n: f32[4,8], y: f32[5,4,8] = scan[t:5](init=[a, b], xs=[x], captures=[]) {
      program step(s: f32[4,8], u: f32[4,8], g: f32[4,8])
      sum: f32[4,8] = L[i:4,j:8] s[i,j] + g[i,j]
      return u, sum, s
    }
    """
    assert error(body, "m, n, y", drawn(a=(4, 8), b=(4, 8), x=(5, 4, 8)), threads=2) <= CLOSE


def test_a_step_may_have_several_stages_states_and_results():
    """A softmax over places, one state that moves by one place, one that is not handed out."""
    body = """
    m: f32[9], c: f32[], y: f32[6,9], z: f32[6] = scan[t:6](init=[a, b], xs=[x], captures=[w]) {
      program step(s: f32[9], u: f32[], g: f32[9], v: f32[9])
      e: f32[9] = L[i:9] exp(s[i] + g[i])
      d: f32[] = L[] sum[k:9]{ e[k] }
      next: f32[9] = L[i:9] e[i] / d[] + s[(i+1)%9] * v[i]
      total: f32[] = L[] u[] + d[]
      shown: f32[9] = L[i:9] next[i] * u[]
      return next, total, shown, d
    }
    """
    given = drawn(a=(9,), b=(), x=(6, 9), w=(9,))
    assert error(body, "m, c, y, z", given, ("w",)) <= CLOSE


def test_two_stages_may_read_one_matrix():
    body = """
    m: f32[3,24], y: f32[5,3,24] = scan[t:5](init=[a], xs=[x], captures=[w]) {
      program step(s: f32[3,24], g: f32[3,24], v: f32[24,24])
      p: f32[3,24] = L[i:3,j:24] sum[k:24]{ s[i,k] * v[j,k] }
      q: f32[24,3] = L[j:24,i:3] sum[k:24]{ p[i,k] * v[j,k] }
      next: f32[3,24] = L[i:3,j:24] tanh(q[j,i] + p[i,j] * g[i,j])
      return next, next
    }
    """
    assert error(body, "m, y", drawn(a=(3, 24), x=(5, 3, 24), w=(24, 24)), ("w",)) <= CLOSE


def test_what_is_stacked_may_be_a_state_as_it_was():
    body = """
    m: f32[8], y: f32[5,8] = scan[t:5](init=[a], xs=[x], captures=[]) {
      program step(s: f32[8], g: f32[8])
      next: f32[8] = L[i:8] s[i] * 0.5 + g[i]
      before: f32[8] = L[i:8] s[i]
      return next, before
    }
    """
    assert error(body, "m, y", drawn(a=(8,), x=(5, 8))) <= CLOSE


def test_a_step_that_hands_on_too_much_is_refused():
    body = program(CELL.format(t=4, n=1, h=6000), "last, every", **drawn(a=(1, 6000), x=(4, 1, 6000), w=(6000, 6000)))
    with pytest.raises(KernelUnsupported, match="a step hands 72000 bytes on, at most 65536 are kept"):
        plan_kernel(body, frozenset(), Processor(threads=1))


def test_a_step_that_sorts_is_refused():
    body = """
    m: f32[8] = scan[t:5](init=[a], xs=[], captures=[]) {
      program step(s: f32[8])
      next: f32[8], places: i64[8] = sort(s, axis=0, descending=false, stable=true)
      return next
    }
    """
    with pytest.raises(KernelUnsupported, match="a step has stages that are no plain algebra"):
        plan_kernel(program(body, "m", **drawn(a=(8,))), frozenset(), ONE)


LAYERS: dict[str, Any] = {
    "lstm": lambda: nn.LSTM(12, 20, 2, bidirectional=True, batch_first=True), "gru": lambda: nn.GRU(12, 33, 2),
    "tanh": lambda: nn.RNN(12, 7, bidirectional=True), "relu": lambda: nn.RNN(12, 16, nonlinearity="relu", bias=False),
    "projected": lambda: nn.LSTM(12, 24, proj_size=10),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_runs_on_generated_kernels_alone(name: str):
    torch.manual_seed(0)
    layer, x = LAYERS[name]().eval(), torch.randn(5, 3, 12)
    made = tpopt.compile(
        Wrapped(lambda m, x: m(x), layer).eval(), x, kernels="generated", choice="model", gate=False, effort=20
    )
    assert made.report.verification.passed
    assert set(made.plan.count()) == {"generated"}
    with torch.no_grad():
        torch.testing.assert_close(made(x), layer(x), rtol=1e-5, atol=1e-6)
