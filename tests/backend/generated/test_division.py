"""Loops that threads divide among them, so that each reads what it wrote itself."""

from __future__ import annotations

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.decisions import Decision, decode, encode
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import Nest
from tpopt.backend.generated.planning import plan_kernel
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch

TWO = Processor(vector_bytes=64, registers=32, threads=2)
LINEAR = "y: f32[{m},{n}] = L[i:{m},j:{n}] sum[k:{k}]{{ x[i,k] * w[j,k] }}"


def nest(m: int, n: int, k: int, constants: tuple[str, ...] = ("w",), processor: Processor = TWO) -> Nest:
    parsed = parse_program(f"program p(x: f32[{m},{k}], w: f32[{n},{k}])\n{LINEAR.format(m=m, n=n, k=k)}\nreturn y")
    (found,) = plan_kernel(parsed, frozenset(constants), processor).nests
    return found


@pytest.mark.parametrize(
    ("m", "n", "k", "divided"),
    [(400, 192, 32, "i"), (100, 576, 96, "i"), (25, 960, 160, None), (128, 3072, 768, None), (1, 512, 512, None)],
    ids=["few weights", "weights like data", "more weights than data", "far more", "one row"],
)
def test_rows_are_divided_where_there_are_fewer_weights_than_data(m: int, n: int, k: int, divided: str | None):
    found = nest(m, n, k)
    assert (found.divided.name if found.divided else None) == divided
    assert found.parallel == 0 if divided else found.parallel > 0


def test_it_takes_constants_and_several_threads():
    assert nest(400, 192, 32, constants=()).divided is None
    assert nest(400, 192, 32, processor=Processor(vector_bytes=64, registers=32, threads=1)).divided is None


def test_a_decision_says_what_is_divided():
    found = nest(400, 192, 32)
    (again,) = decode(encode([Decision.of(found)]))
    assert found.work.loops[again.divided] is found.divided


CASES = {
    "parts of unequal length": (LINEAR.format(m=401, n=192, k=32), {"x": (401, 32), "w": (192, 32)}),
    "a long sum in blocks": (LINEAR.format(m=405, n=200, k=600), {"x": (405, 600), "w": (200, 600)}),
    "a batch of products": (
        "y: f32[5,201,64] = L[p:5,i:201,j:64] sum[k:48]{ x[p,i,k] * w[p,j,k] }",
        {"x": (5, 201, 48), "w": (5, 64, 48)},
    ),
    "with what follows": (
        "y: f32[403,192] = L[i:403,j:192] max(sum[k:32]{ x[i,k] * w[j,k] } + b[j], 0.0) + r[i,j]",
        {"x": (403, 32), "w": (192, 32), "b": (192,), "r": (403, 192)},
    ),
}


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_divided_loop_agrees_with_its_algebra(case: str, threads: int):
    body, shapes = CASES[case]
    drawn = torch.Generator().manual_seed(0)
    given = {n: torch.randn(s, generator=drawn) for n, s in shapes.items()}
    planned = plan_kernel(program(body, "y", **given), frozenset({"w"}), Processor(threads=threads))
    assert all(n.divided for n in planned.nests)
    exact = to_torch(program(body, "y", **given), dtype=torch.float64)(*given.values())[0]
    (found,) = run(body, "y", constants=("w",), threads=threads, **given)
    assert (found.double() - exact).norm() <= 5e-7 * exact.norm()
