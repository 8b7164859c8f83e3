"""Long sums that pass over all tiles a block of terms at a time."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.generated import program, run

from tpopt.backend.generated.blocks import loops_around_blocks, split_sum
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import BLOCK, LONG_SUM, Nest
from tpopt.backend.generated.planning import plan_kernel
from tpopt.ir import Const, DType, Iter, Reduce
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch

NARROW = Processor(vector_bytes=32, registers=16, threads=2)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=3))
def test_blocks_cover_a_sum_and_have_so_many_terms_at_most(extents: list[int]):
    iters = tuple(Iter(f"k{n}", e) for n, e in enumerate(extents))
    blocks, within = split_sum(Reduce("sum", iters, (Const(1.0, DType.F32),)))
    if prod(extents) <= LONG_SUM:
        assert (blocks, [i for i, _ in within]) == ([], list(iters))
        return
    first, rest = dict(blocks), dict(within)
    assert list(dict.fromkeys([*first, *rest])) == list(iters)
    inside = 1
    for iterator, extent in zip(iters, extents, strict=True):
        size = first[iterator] if iterator in first and iterator in rest else extent if iterator in rest else 1
        inside *= size
        assert iterator not in first or -(-extent // first[iterator]) * first[iterator] >= extent
    assert inside <= BLOCK
    assert inside > BLOCK // 4 or any(extents[k] > BLOCK // 2 for k in range(len(extents)))


def nest(body: str, inputs: str, constants: tuple[str, ...] = ("w",)) -> Nest:
    parsed = parse_program(f"program p({inputs})\n{body}\nreturn y")
    (found,) = plan_kernel(parsed, frozenset(constants), NARROW).nests
    return found


LINEAR = "y: f32[{m},{n}] = L[i:{m},j:{n}] sum[k:{k}]{{ x[i,k] * w[j,k] }}"


@pytest.mark.parametrize(
    ("m", "n", "k", "around"),
    [(128, 768, 768, 1), (128, 768, 200, 0), (4, 768, 768, 0), (128, 8, 300, 0)],
    ids=["a product of matrices", "a short sum", "one tile of rows", "a panel that stays in the cache anyway"],
)
def test_blocks_are_for_panels_that_many_tiles_share(m: int, n: int, k: int, around: int):
    found = nest(LINEAR.format(m=m, n=n, k=k), f"x: f32[{m},{k}], w: f32[{n},{k}]")
    assert found.outside == loops_around_blocks(found) == around


@pytest.mark.parametrize(
    "body",
    [
        "y: f32[128,96] = L[i:128,j:96] max[k:768]{ x[i,k] * w[j,k] }",
        "y: f32[128,96] = L[i:128,j:96] select(1 <= i < 100, sum[k:768]{ x[i,k] * w[j,k] }, 0.0)",
        "y: f32[128,96] = L[i:128,j:96] sum[k:768]{ x[i,k] * w[j,k] } + sum[k:768]{ x[i,k] }",
    ],
    ids=["a maximum", "a sum under a condition", "two sums"],
)
def test_other_reductions_go_tile_by_tile(body: str):
    assert nest(body, "x: f32[128,768], w: f32[96,768]").outside == 0


CASES = {
    "even": ("y: f32[48,64] = L[i:48,j:64] sum[k:768]{ x[i,k] * w[j,k] }", {"x": (48, 768), "w": (64, 768)}),
    "odd, with what follows": (
        "y: f32[37,45] = L[i:37,j:45] max(sum[k:777]{ x[i,k] * w[j,k] } + b[j], 0.0) * r[i,j]",
        {"x": (37, 777), "w": (45, 777), "b": (45,), "r": (37, 45)},
    ),
    "a batch": (
        "y: f32[3,37,45] = L[n:3,i:37,j:45] sum[k:600]{ x[n,i,k] * w[n,k,j] }",
        {"x": (3, 37, 600), "w": (3, 600, 45)},
    ),
    "the weight times the data": (
        "y: f32[45,37] = L[j:45,i:37] sum[k:777]{ w[j,k] * x[i,k] }",
        {"x": (37, 777), "w": (45, 777)},
    ),
    "a convolution": (
        (
            "y: f32[40,9,11] = L[o:40,h:9,v:11] sum[c:70,a:3,b:3]{ select(0 <= h+a-1 < 9 & 0 <= v+b-1 < 11, "
            "x[c,h+a-1,v+b-1], 0.0) * w[o,c,a,b] }"
        ),
        {"x": (70, 9, 11), "w": (40, 70, 3, 3)},
    ),
}


@pytest.mark.parametrize("constants", [(), ("w",)], ids=["any weight", "a constant weight"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_sum_in_blocks_agrees_with_its_algebra(case: str, threads: int, constants: tuple[str, ...]):
    body, shapes = CASES[case]
    drawn = torch.Generator().manual_seed(0)
    given = {n: torch.randn(s, generator=drawn) for n, s in shapes.items()}
    exact = to_torch(program(body, "y", **given), dtype=torch.float64)(*given.values())[0]
    (found,) = run(body, "y", constants=constants, threads=threads, **given)
    assert (found.double() - exact).norm() <= 5e-7 * exact.norm()


def ahead(m: int, n: int, k: int) -> int:
    parsed = parse_program(f"program p(x: f32[{m},{k}], w: f32[{n},{k}])\n{LINEAR.format(m=m, n=n, k=k)}\nreturn y")
    (pack,) = plan_kernel(parsed, frozenset({"w"}), NARROW).packs
    return pack.ahead


def test_the_next_panel_is_asked_for_while_tiles_share_one():
    """As many elements as a panel has: of one block of the sum's terms, or of all."""
    narrow = ahead(128, 768, 768) // 256
    assert narrow % 8 == 0
    assert ahead(128, 768, 768) == narrow * 256
    assert ahead(128, 768, 200) == narrow * 200


@pytest.mark.parametrize(("m", "n", "k"), [(4, 768, 768), (128, 96, 768)], ids=["one tile of rows", "a small weight"])
def test_nothing_is_asked_for_that_comes_by_itself(m: int, n: int, k: int):
    assert ahead(m, n, k) == 0
