"""Stages that share rows in blocks, and operands that are turned round first."""

from __future__ import annotations

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import KernelPlan
from tpopt.backend.generated.planning import plan_kernel
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch

WIDE = Processor(vector_bytes=64, registers=32, threads=2)


def attention(heads: int, queries: int, keys: int, width: int, scores: str = "", v: str = "v[h,j,d]") -> str:
    """Softmax attention, with what ``scores`` adds to them, on values that are read as ``v``."""
    rows, all_ = f"L[h:{heads},i:{queries}]", f"L[h:{heads},i:{queries},j:{keys}]"
    shape, out = f"f32[{heads},{queries},{keys}]", f"f32[{heads},{queries},{width}]"
    return "\n".join(
        [
            f"s: {shape} = {all_} sum[d:{width}]{{ q[h,i,d] * k[h,j,d] }} * 0.125{scores}",
            f"m: f32[{heads},{queries}] = {rows} max[j:{keys}]{{ s[h,i,j] }}",
            f"e: {shape} = {all_} exp(s[h,i,j] - m[h,i])",
            f"z: f32[{heads},{queries}] = {rows} sum[j:{keys}]{{ e[h,i,j] }}",
            f"y: {out} = {rows[:-1]},d:{width}] sum[j:{keys}]{{ e[h,i,j] * {v} }} / z[h,i]",
        ]
    )


def drawn(heads: int, queries: int, keys: int, width: int) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    shapes = {"q": (heads, queries, width), "k": (heads, keys, width), "v": (heads, keys, width)}
    return {n: torch.randn(s, generator=made) for n, s in shapes.items()}


def planned(body: str, inputs: str, constants: tuple[str, ...] = ()) -> KernelPlan:
    return plan_kernel(parse_program(f"program p({inputs})\n{body}\nreturn y"), frozenset(constants), WIDE)


def error(body: str, given: dict[str, torch.Tensor], threads: int = 2) -> float:
    """Relative L2 error of the kernel against its algebra in float64."""
    exact = to_torch(program(body, "y", **given), dtype=torch.float64)(*given.values())[0]
    (found,) = run(body, "y", threads=threads, **given)
    return float((found.double() - exact).norm() / exact.norm())


SIZES = [(2, 64, 64, 32), (3, 50, 50, 16), (2, 17, 40, 24), (1, 90, 33, 8), (2, 9, 9, 16), (2, 48, 1, 16)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))
def test_attention_in_one_kernel_agrees_with_its_algebra(size: tuple[int, int, int, int], threads: int):
    assert error(attention(*size), drawn(*size), threads) <= 2e-6


def test_masked_scores_agree():
    size = (2, 50, 50, 16)
    body = attention(*size, scores=" + select(i <= j < 50, 0.0, -1e9)")
    assert error(body, drawn(*size)) <= 2e-6


def test_queries_run_in_blocks_and_keys_are_turned_round_once_a_head():
    inputs = "q: f32[6,197,64], k: f32[6,197,64], v: f32[6,197,64]"
    plan = planned(attention(6, 197, 197, 64), inputs)
    assert plan.block == 40  # five blocks of 197 rows: the last one moves back by three
    assert [plan.trips(r) for r in plan.rows] == [6, 5]
    assert plan.parallel == 1
    copy, *others = plan.nests
    assert copy.depth == 1
    assert copy.work.outs[0].shape == (6, 64, 197)
    assert {n.depth for n in others} == {2}


@pytest.mark.parametrize("size", [(2, 64, 64, 32), (3, 100, 50, 16)], ids=["one block", "several blocks"])
def test_keys_and_values_are_both_turned_round_before_the_first_block(size: tuple[int, int, int, int]):
    heads, _, keys, width = size
    body, given = attention(*size, v="v[h,d,j]"), drawn(*size)
    given["v"] = given["v"].transpose(1, 2).contiguous()
    plan = planned(body, ", ".join(f"{n}: f32[{','.join(map(str, t.shape))}]" for n, t in given.items()))
    assert [n.work.outs[0].shape for n in plan.nests if n.depth == 1] == [(heads, width, keys), (heads, keys, width)]
    assert [n.depth for n in plan.nests] == sorted(n.depth for n in plan.nests)
    assert error(body, given) <= 2e-6


def test_rows_run_one_by_one_where_every_operand_changes_with_them():
    """A normalization has no products, and a band's keys move with the query."""
    norm = (
        "m: f32[64] = L[i:64] sum[k:96]{ x[i,k] } / 96.0\n"
        "y: f32[64,96] = L[i:64,k:96] (x[i,k] - m[i]) * rsqrt(sum[l:96]{ (x[i,l] - m[i]) * (x[i,l] - m[i]) })"
    )
    assert planned(norm, "x: f32[64,96]").block == 1
    band = (
        "s: f32[64,9] = L[i:64,w:9] sum[d:16]{ q[i,d] * k[i+w,d] }\n"
        "y: f32[64,16] = L[i:64,d:16] sum[w:9]{ exp(s[i,w]) * v[i+w,d] }"
    )
    assert planned(band, "q: f32[64,16], k: f32[72,16], v: f32[72,16]").block == 1


SCORES = "y: f32[{h},{n},{m}] = L[h:{h},i:{n},j:{m}] sum[d:{d}]{{ q[h,i,d] * k[h,j,d] }}"


@pytest.mark.parametrize(
    ("h", "n", "m", "d", "copied"),
    [(3, 40, 50, 24, True), (3, 4, 50, 24, False), (3, 40, 4000, 24, False), (1, 40, 50, 24, False)],
    ids=["many rows", "few rows: the copy would cost more", "too much for the caches", "nothing for a second thread"],
)
def test_an_operand_is_turned_round_for_enough_rows(h: int, n: int, m: int, d: int, copied: bool):
    body = SCORES.format(h=h, n=n, m=m, d=d)
    assert len(planned(body, f"q: f32[{h},{n},{d}], k: f32[{h},{m},{d}]").nests) == 1 + copied
    if m < 100:
        made = torch.Generator().manual_seed(0)
        given = {"q": torch.randn(h, n, d, generator=made), "k": torch.randn(h, m, d, generator=made)}
        assert error(body, given) <= 2e-6


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("y: f32[3,40,50] = L[h:3,i:40,j:50] sum[d:24]{ q[h,i,d] * k[h,d,j] }", "q: f32[3,40,24], k: f32[3,24,50]"),
        ("y: f32[40,50] = L[i:40,j:50] sum[d:24]{ q[i,d] * k[j,d] }", "q: f32[40,24], k: f32[50,24]"),
        ("y: f32[3,40,50] = L[h:3,i:40,j:50] max[d:24]{ q[h,i,d] * k[h,j,d] }", "q: f32[3,40,24], k: f32[3,50,24]"),
    ],
    ids=["it lies along the results already", "one product, whose operand is no part of anything", "no sum"],
)
def test_others_are_read_as_they_lie(body: str, inputs: str):
    assert len(planned(body, inputs).nests) == 1
