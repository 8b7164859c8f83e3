"""Work counts against counts by hand."""

from __future__ import annotations

import pytest
import torch

from tpopt.errors import UsageError
from tpopt.frontend.trace import trace
from tpopt.ir import Opaque, Program, tensor
from tpopt.ir.dtypes import DType
from tpopt.ir.parse import parse_program
from tpopt.ir.work import stage_work, work


def counts(inputs: str, stage: str, **sizes: int) -> tuple[int, int]:
    """Multiply-adds and other operations of one stage."""
    symbols = "".join(f"symbol {s} in [1, inf]\n" for s in sizes)
    outs = ", ".join(part.split(":")[0].strip() for part in stage.split("=", 1)[0].split("],") if ":" in part)
    (found,) = parse_program(f"program p({inputs})\n{symbols}{stage}\nreturn {outs}").stages
    w = stage_work(found, sizes)
    return w.macs, w.flops


@pytest.mark.parametrize(
    ("inputs", "stage", "expected"),
    [
        ("x: f32[3,4], w: f32[4,5]", "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] }", (60, 0)),
        ("x: f32[3,4], w: f32[4,5]", "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] } + x[i,0]", (60, 15)),
        ("x: f32[3,4], w: f32[4,5]", "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] * 2.0 }", (60, 60)),
        ("x: f32[3,4], w: f32[4,5]",
         "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] - x[i,k] * x[i,0] }", (120, 0)),
        ("x: f32[3,4], w: f32[4]", "y: f32[3] = L[i:3] sum[k:4]{ 2.0 * (x[i,k] * w[k]) }", (12, 12)),
        ("x: f32[3,4]", "y: f32[3] = L[i:3] sum[k:4]{ 2.0 * x[i,k] }", (0, 24)),
        ("x: f32[3,4]", "y: f32[3] = L[i:3] sum[k:4]{ x[i,k] }", (0, 12)),
        ("x: f32[3,4]", "y: f32[3] = L[i:3] max[k:4]{ exp(x[i,k]) }", (0, 24)),
        ("x: f32[3,4]", "y: f32[3,4] = L[i:3,j:4] exp(x[i,j]) / sum[k:4]{ exp(x[i,k]) }", (0, 12 + 12 + 12 + 12)),
        ("x: f32[3,4]", "y: f32[3,4] = L[i:3,j:4] (x[i,j] + 1.0) * (x[i,j] + 1.0)", (0, 24)),
        ("x: f32[3], z: f32[4]", "y: f32[3,4] = L[i:3,j:4] exp(x[i]) + exp(z[j])", (0, 3 + 4 + 12)),
        ("x: f32[9]", "y: f32[9] = L[i:9] select(1 <= i < 9, x[i-1], 0.0)", (0, 0)),
        ("x: f32[3,4]",
         "p: i64[3], v: f32[3] = L[i:3] argmax[k:4].1{ x[i,k], k }, argmax[k:4].0{ x[i,k], k }", (0, 12)),
        ("x: f32[2,3,6], w: f32[4,3,3]",
         "y: f32[2,4,6] = L[n:2,o:4,i:6] sum[c:3,r:3]{ select(1 <= i+r < 7, x[n,c,i+r-1], 0.0) * w[o,c,r] }",
         (2 * 4 * 6 * 9, 0)),
        ("x: f32[4], t: i64[5]", "y: f32[4] = scatter add into x L[i:5] at [t[i]{0:4}] { exp(x[0]) }", (0, 5 + 1)),
        ("x: c64[3,4], w: c64[4,5]", "y: c64[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] }", (4 * 60, 0)),
        ("x: f32[3,4], w: c64[4,5]", "y: c64[3,5] = L[i:3,j:5] sum[k:4]{ c64(x[i,k]) * w[k,j] }", (2 * 60, 0)),
        ("x: c64[3,4], w: c64[4,5]",
         "y: f32[3,5] = L[i:3,j:5] real(sum[k:4]{ x[i,k] * w[k,j] } + x[i,0])", (2 * 60, 15 + 15)),
        ("x: c64[3,4], w: c64[4,5]",
         "y: f32[3,5] = L[i:3,j:5] real(sum[k:4]{ x[i,k] * w[k,j] }) + abs(sum[k:4]{ x[i,k] * w[k,j] })",
         (4 * 60, 3 * 15)),
        ("x: f32[6,8]", "v: f32[6,8], i: i64[6,8] = sort(x, axis=1, descending=false, stable=true)", (0, 48 * 3)),
    ],
)  # fmt: skip
def test_counts_by_hand(inputs: str, stage: str, expected: tuple[int, int]):
    assert counts(inputs, stage) == expected


def test_sizes_are_taken_at_the_given_values():
    inputs, stage = "x: f32[s0,4], w: f32[4,s1]", "y: f32[s0,s1] = L[i:s0,j:s1] sum[k:4]{ x[i,k] * w[k,j] }"
    assert counts(inputs, stage, s0=10, s1=3) == (120, 0)
    with pytest.raises(UsageError, match="size s1: symbol 's1' has no value; pass it in sizes="):
        work(
            parse_program(f"program p({inputs})\nsymbol s0 in [1, 9]\nsymbol s1 in [1, 9]\n{stage}\nreturn y"),
            {"s0": 2},
        )


SCAN = """program p(c: f32[3], xs: f32[5,3])
h: f32[3], ys: f32[5,3] = scan[t:5](init=[c], xs=[xs], captures=[]) {
  program step(h0: f32[3], x: f32[3])
  h1: f32[3] = L[i:3] tanh(h0[i] + x[i])
  return h1, h1
}
return h"""
KERNEL = """program p(x: f32[2,3], w: f32[3,4])
y: f32[2,4] = kernel gemm(x, w) defines {
  t: f32[2,4] = L[i:2,j:4] sum[k:3]{ x[i,k] * w[k,j] }
  y: f32[2,4] = L[i:2,j:4] max(t[i,j], 0.0)
}
return y"""


def test_a_scan_counts_every_step_and_a_kernel_its_algebra():
    scan, kernel = work(parse_program(SCAN)), work(parse_program(KERNEL))
    assert (scan.macs, scan.flops) == (0, 5 * 6)
    assert (kernel.macs, kernel.flops, kernel.bytes_read, kernel.bytes_written) == (24, 8, 24 + 48, 32)


def test_bytes_are_those_of_the_elements_that_are_touched():
    p = parse_program("program p(t: i64[5], w: f16[100,8])\ny: f16[5,8] = L[i:5,j:8] w[t[i]{0:100},j]\nreturn y")
    assert (work(p).bytes_read, work(p).bytes_written) == (5 * 8 + 5 * 8 * 2, 80)
    twice = parse_program("program p(x: f32[10])\ny: f32[10] = L[i:10] x[i] + x[9-i]\nreturn y")
    assert work(twice).bytes_read == 40


def test_temporaries_are_the_most_local_bytes_alive_at_once():
    text = """program p(x: f32[10])
    a: f32[10] = L[i:10] exp(x[i])
    b: f32[10,3] = L[i:10,j:3] a[i] + f32(j)
    c: f32[10] = L[i:10] b[i,0] * a[i]
    d: f32[10] = L[i:10] c[i] * 2.0
    return d"""
    assert work(parse_program(text)).temporaries == 40 + 120 + 40


def test_opaque_calls_count_nothing_and_are_listed():
    x, y = tensor("x", (4,), DType.F32), tensor("y", (4,), DType.F32)
    w = work(Program("p", (x,), (), (Opaque((y,), "aten.mystery.default", (x,)),), (y,)))
    assert (w.macs, w.flops, w.opaque) == (0, 0, ("y (aten.mystery.default)",))


def test_it_prints_as_a_table_and_turns_into_a_dictionary():
    w = work(
        parse_program(
            "program p(x: f32[3,4], w: f32[4,5])\ny: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] }\nreturn y"
        )
    )
    assert str(w).splitlines() == [
        "macs  flops  bytes read  bytes written  kind     stage",
        "  60      0         128             60  compute  y",
        "  60      0         128             60  total    temporaries 0",
    ]
    totals = {"macs": 60, "flops": 0, "bytes_read": 128, "bytes_written": 60, "temporaries": 0, "opaque": []}
    stage = {"name": "y", "kind": "compute", "macs": 60, "flops": 0, "bytes_read": 128, "bytes_written": 60}
    assert w.to_dict() == {**totals, "stages": [stage]}


def test_a_transform_in_a_library_counts_as_a_fast_one():
    class Once(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft2(x)

    algebra = trace(Once(), (torch.zeros(3, 8, 16, dtype=torch.complex64),)).algebra
    assert (work(algebra).macs, work(algebra).flops) == (0, 5 * 3 * 8 * 16 * 7)
