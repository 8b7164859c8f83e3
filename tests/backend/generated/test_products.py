"""Sums of products on the matrix unit: planned and compiled on any machine, run where there is one."""

from __future__ import annotations

import re

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.machine import Processor, host_processor
from tpopt.backend.generated.packing import split
from tpopt.backend.generated.parts import LINE, Products
from tpopt.backend.generated.planning import plan_kernel
from tpopt.backend.generated.request import KernelRequest
from tpopt.errors import KernelUnsupported
from tpopt.ir.to_torch import to_torch

needs_unit = pytest.mark.skipif(not host_processor().matrix, reason="this processor has no matrix unit (Intel AMX)")

LINEAR = "y: f32[{m},{n}] = L[i:{m},j:{n}] max(sum[k:{k}]{{ x[i,k] * w[j,k] }} + b[j], 0.0)"
CONVOLUTION = (
    "y: f32[2,{o},{h},{h}] = L[n:2,o:{o},h:{h},v:{h}] sum[c:{c},a:3,b:3]{{ select({p} <= {s}*h+{d}*a < {e} & "
    "{p} <= {s}*v+{d}*b < {e}, x[n,c,{s}*h+{d}*a-{p},{s}*v+{d}*b-{p}], 0.0) * w[o,c,a,b] }} + t[o]"
)
LAST = CONVOLUTION.replace("y: f32[2,{o},{h},{h}]", "y: f32[2,{h},{h},{o}]").replace(
    "o:{o},h:{h},v:{h}", "h:{h},v:{h},o:{o}"
)
LAST = LAST.replace("x[n,c,{s}*h+{d}*a-{p},{s}*v+{d}*b-{p}]", "x[n,{s}*h+{d}*a-{p},{s}*v+{d}*b-{p},c]")


def convolution(text: str, c: int, o: int, size: int, stride: int = 1, pad: int = 1, dilation: int = 1):
    """The text of a convolution with a window of 3, and its inputs."""
    h = (size + 2 * pad - 2 * dilation - 1) // stride + 1
    body = text.format(o=o, c=c, h=h, s=stride, p=pad, d=dilation, e=size + pad)
    shape = (2, size, size, c) if text is LAST else (2, c, size, size)
    return body, {"x": torch.randn(shape), "w": torch.randn(o, c, 3, 3), "t": torch.randn(o)}


def linear(m: int, n: int, k: int):
    return LINEAR.format(m=m, n=n, k=k), {"x": torch.randn(m, k), "w": torch.randn(n, k), "b": torch.randn(n)}


BATCHED = (
    "y: f32[3,40,33] = L[h:3,i:40,j:33] sum[k:70]{ x[h,i,k] * w[h,j,k] } * 0.5",
    {"x": torch.randn(3, 40, 70), "w": torch.randn(3, 33, 70)},
)
CASES = {
    "linear": linear(64, 96, 128),
    "linear of odd sizes": linear(37, 115, 71),
    "linear of few rows": linear(5, 130, 513),
    "a long sum": linear(17, 33, 3000),
    "convolution": convolution(CONVOLUTION, 20, 24, 18),
    "convolution, dilated": convolution(CONVOLUTION, 16, 17, 20, pad=2, dilation=2),
    "channels last": convolution(LAST, 33, 32, 12),
    "channels last with strides": convolution(LAST, 32, 48, 15, stride=2),
    "few places": convolution(LAST, 64, 48, 7),
    "batched": BATCHED,
}


def planned(body: str, constants: tuple[str, ...] = ("w",), **inputs: torch.Tensor) -> Products:
    made = program(body, "y", **inputs)
    found = plan_kernel(made, frozenset(constants), Processor(threads=2, matrix=True), matrix=True).products
    assert found is not None
    return found


def stored(body: str, *names: str) -> str:
    """The text with some tensors stored in bf16."""
    for name in names:
        body = re.sub(rf"\b{name}(\[[^\]]*\])", rf"f32({name}\1)", body)
    return body


@needs_unit
@pytest.mark.parametrize("narrow", ["xw", "x", "w"])
@pytest.mark.parametrize("constants", [("w",), ()], ids=["constant", "moving"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_bf16_needs_one_part(name: str, constants: tuple[str, ...], narrow: str):
    body, inputs = CASES[name]
    body = stored(body, *narrow)
    inputs = {n: t.bfloat16() if n in narrow else t for n, t in inputs.items()}
    assert [s.parts for s in (planned(body, constants, **inputs).left, planned(body, constants, **inputs).right)].count(
        1
    ) == len(narrow)
    (want,) = to_torch(program(body, "y", **inputs))(*inputs.values())
    (got,) = run(body, "y", constants, 2, matrix=True, **inputs)
    assert (got - want).norm() <= 1e-6 * want.norm()


@needs_unit
@pytest.mark.parametrize("constants", [("w",), ()], ids=["constant", "moving"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_as_exact_as_float32(name: str, constants: tuple[str, ...]):
    body, inputs = CASES[name]
    whole = program(body, "y", **inputs)
    exact = to_torch(program(body.replace("f32", "f64"), "y", **{n: t.double() for n, t in inputs.items()}))
    want = exact(*(t.double() for t in inputs.values()))
    plain = to_torch(whole)(*inputs.values())
    want, plain = (t[0] if isinstance(t, tuple) else t for t in (want, plain))
    (got,) = run(body, "y", constants, 2, matrix=True, **inputs)
    error, usual = ((t.double() - want).norm() / want.norm() for t in (got, plain))
    assert error <= max(1.5 * usual, 5e-7)


@needs_unit
@pytest.mark.parametrize("name", ["linear of odd sizes", "convolution", "channels last"])
def test_infinite_numbers_and_nan_come_out_as_they_should(name: str):
    body, inputs = CASES[name]
    x = inputs["x"].clone()
    x.view(-1)[3], x.view(-1)[x.numel() // 2], x.view(-1)[-1] = float("inf"), float("nan"), -float("inf")
    given = {**inputs, "x": x}
    want = to_torch(program(body, "y", **given))(*given.values())
    want = want[0] if isinstance(want, tuple) else want
    (got,) = run(body, "y", ("w",), matrix=True, **given)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.isposinf(), want.isposinf())
    assert torch.equal(got.isneginf(), want.isneginf())
    finite = want.isfinite()
    torch.testing.assert_close(got[finite], want[finite], rtol=1e-4, atol=1e-4)


@needs_unit
def test_libraries_that_use_the_unit_are_not_disturbed():
    body, inputs = CASES["linear"]
    a, b = torch.randn(200, 300).bfloat16(), torch.randn(300, 100).bfloat16()
    alone = a @ b
    (first,) = run(body, "y", ("w",), matrix=True, **inputs)
    for _ in range(3):
        assert torch.equal(a @ b, alone)
        (again,) = run(body, "y", ("w",), matrix=True, **inputs)
        assert torch.equal(again, first)


@pytest.mark.parametrize("name", CASES)
def test_it_compiles_on_any_machine(name: str):
    from tvm.target import Target

    from tpopt.backend.tvm.function import kernel_function
    from tpopt.backend.tvm.target import host_module

    body, inputs = CASES[name]
    request = KernelRequest.of(program(body, "y", **inputs), (1,), Processor(threads=2, matrix=True), matrix=True)
    module = host_module(kernel_function(request.plan), Target({"kind": "llvm", "mcpu": "sapphirerapids"}))
    assert module.inspect_source("asm").count("tdpbf16ps") >= 6


def test_parts_add_up_to_the_number_itself():
    body, inputs = linear(160, 40, 50)
    products = planned(body, **inputs)
    (parts,) = products.constants
    weight = inputs["w"] * torch.logspace(-20, 20, 50)
    weight[0, 0], weight[1, 1], weight[2, 2] = float("inf"), float("nan"), 3.4e38
    whole = (split(parts, weight).view(torch.int16).int() << 16).view(torch.float32)
    assert whole.shape == (3, 2, 3, 16, LINE)  # tiles of columns, blocks of terms, parts, pairs, columns and terms
    tiles = whole.sum(2).view(3, 2, 16, 16, 2).permute(0, 3, 1, 2, 4).reshape(3, 16, 64)
    first = [0, 16, 24]  # the last tile ends where the loop does
    for tile, start in zip(tiles, first, strict=True):
        assert torch.equal(tile[:, :50].nan_to_num(7.0), weight[start : start + 16].nan_to_num(7.0))
        assert not tile[:, 50:].any()


def test_windows_are_cut_once_for_every_place_of_their_ground():
    body, inputs = convolution(LAST, 32, 48, 15, stride=2)
    products = planned(body, **inputs)
    assert sorted(products.left.shape(products.depth)[:-1]) == [2, 17, 17]
    assert (products.left.constant, products.right.constant) == (False, True)


def test_columns_that_lie_apart_are_not_taken_from_a_window():
    body, inputs = convolution(CONVOLUTION, 16, 32, 41, stride=2)
    products = planned(body, **inputs)
    *_, last = products.right.axes
    assert last is products.right.tile
    assert last.extent == 21


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y: f32[64,64] = L[i:64,j:64] x[i,j] * w[j,i]", "not one sum"),
        ("y: f32[64] = L[j:64] sum[k:64]{ x[j,k] * w[j,k] }", "not a sum of products"),
        ("y: f32[64,64] = L[i:64,j:64] max[k:64]{ x[i,k] * w[j,k] }", "not a sum of float32"),
        ("y: f32[64,64] = L[i:64,j:64] sum[k:8]{ x[i,k] * w[j,k] }", "no sum of 16 terms"),
        ("y: f32[16,16] = L[i:16,j:16] sum[k:16]{ x[i,k] * w[j,k] }", "too few products"),
        ("y: f32[3,64] = L[i:3,j:64] sum[k:64,l:64]{ x[i,k] * w[j,k] * x[i,l] }", "too few rows"),
        ("y: f32[64,64] = L[i:64,j:64] sum[k:64]{ x[i,k] + w[j,k] }", "not a sum of products"),
    ],
)
def test_what_the_unit_cannot_do_is_refused_with_the_reason(body: str, reason: str):
    with pytest.raises(KernelUnsupported, match=reason):
        planned(body, x=torch.randn(64, 64), w=torch.randn(64, 64))


def test_a_processor_without_the_unit_is_told():
    body, inputs = CASES["linear"]
    with pytest.raises(KernelUnsupported, match="no matrix unit"):
        plan_kernel(program(body, "y", **inputs), frozenset(), Processor(), matrix=True)


def test_requests_for_the_unit_are_others():
    body, inputs = CASES["linear"]
    whole = program(body, "y", **inputs)
    processor = Processor(matrix=True)
    plain, matrix = (KernelRequest.of(whole, (1,), processor, matrix=m) for m in (False, True))
    assert plain.digest != matrix.digest
    assert KernelRequest.decode(matrix.encode()) == matrix
