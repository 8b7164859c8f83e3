"""Tiles inside all guards, and masked reads of memory that the process has not."""

from __future__ import annotations

import ctypes
import mmap
import sys
import time

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.interior import interior
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import Nest
from tpopt.backend.generated.planning import plan_kernel
from tpopt.backend.generated.request import KernelRequest
from tpopt.ir import Select, postorder
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch

WIDE = Processor(vector_bytes=64, registers=32, threads=2)
GUARDED = "select(1 <= h+r < {high} & 1 <= v+s < {wide}, x[h+r-1,v+s-1,c], 0.0)"


def depthwise(height: int, width: int, channels: int) -> str:
    """A 3 by 3 convolution of each channel with itself, with zeros around."""
    data = GUARDED.format(high=height + 1, wide=width + 1)
    return (
        f"y: f32[{height},{width},{channels}] = L[h:{height},v:{width},c:{channels}] "
        f"sum[r:3,s:3]{{ {data} * w[r,s,c] }}"
    )


def nest(body: str, inputs: str) -> Nest:
    (found,) = plan_kernel(parse_program(f"program p({inputs})\n{body}\nreturn y"), frozenset(), WIDE).nests
    return found


def test_no_guard_is_left_inside():
    found = interior(nest(depthwise(40, 40, 32), "x: f32[40,40,32], w: f32[3,3,32]"))
    assert found is not None
    assert not any(isinstance(t, Select) for t in postorder(*found.work.bodies))
    assert len(found.least) == 4  # two ends of two loops


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (depthwise(3, 3, 32), "x: f32[3,3,32], w: f32[3,3,32]"),
        ("y: f32[64] = L[c:64] sum[k:32]{ x[k,c] }", "x: f32[32,64]"),
        ("y: f32[64,64] = L[h:64,c:64] select(2 <= h//3 < 9, x[h,c], 0.0)", "x: f32[64,64]"),
    ],
    ids=["every tile is at a border", "no guards", "a guard on a quotient"],
)
def test_others_are_written_once(body: str, inputs: str):
    assert interior(nest(body, inputs)) is None


def drawn(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(0)
    return {n: torch.randn(s, generator=made) for n, s in shapes.items()}


CASES = {
    "a depthwise convolution": (depthwise(23, 17, 40), {"x": (23, 17, 40), "w": (3, 3, 40)}),
    "a long sum in blocks": (
        (
            "y: f32[31,29,24] = L[h:31,v:29,k:24] sum[c:96,r:3,s:3]"
            "{ select(1 <= h+r < 32 & 1 <= v+s < 30, x[h+r-1,v+s-1,c], 0.0) * w[r,s,c,k] }"
        ),
        {"x": (31, 29, 96), "w": (3, 3, 96, 24)},
    ),
    "vectors along a guarded axis": (
        "y: f32[9,61] = L[h:9,v:61] max[r:3,s:3]{ select(1 <= h+r < 10 & 1 <= v+s < 62, x[h+r-1,v+s-1], -1.0) }",
        {"x": (9, 61)},
    ),
    "away from the middle": (
        "y: f32[50,32] = L[h:50,c:32] select(7 <= 45-h < 40, x[h,c], z[c]) * 2.0",
        {"x": (50, 32), "z": (32,)},
    ),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_its_algebra(case: str, threads: int):
    body, shapes = CASES[case]
    given = drawn(**shapes)
    exact = to_torch(program(body, "y", **given), dtype=torch.float64)(*given.values())[0]
    (found,) = run(body, "y", threads=threads, **given)
    assert (found.double() - exact).norm() <= 1e-6 * exact.norm()


@pytest.mark.serial
def test_reads_that_are_masked_off_do_not_ask_for_memory_that_is_not_there():
    """Each would cost an assist of the processor: a kernel that asks takes ten times as long between two such pages."""
    given = drawn(x=(20, 20, 192), w=(3, 3, 192))
    x, w, out = given["x"], given["w"], torch.empty(20, 20, 192)
    size = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    inside = whole[mmap.PAGESIZE : mmap.PAGESIZE + x.nbytes].view(torch.float32).view(x.shape)
    inside.copy_(x)
    libc, places = ctypes.CDLL(None), (whole.data_ptr(), whole.data_ptr() + mmap.PAGESIZE + size)

    def microseconds(data: torch.Tensor, foreign: tuple[int, ...]) -> float:
        request = KernelRequest.of(
            program(depthwise(20, 20, 192), "y", **given), (), Processor(threads=1), foreign=foreign
        )
        function, times = GeneratedKernel(request, {}).at((x, w)), []
        for _ in range(40):
            start = time.perf_counter()
            for _ in range(5):
                function(data, w, out)
            times.append((time.perf_counter() - start) / 5)
        return min(times) * 1e6

    try:
        for place in places:
            assert libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        held, asking = ([microseconds(data, foreign) for data in (x, inside)] for foreign in ((0,), ()))
    finally:
        for place in places:
            libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE)
        del inside, whole
    sys.stdout.write(f"us beside memory, and between missing pages: held inside {held}, asking {asking}\n")
    assert held[1] < 3 * held[0]
