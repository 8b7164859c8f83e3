"""Kernels over channels-last tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.generated import program

from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.physical import physical
from tpopt.backend.generated.request import KernelRequest
from tpopt.errors import KernelUnsupported
from tpopt.ir import Program, Tensor
from tpopt.ir.walk import map_stage_tensors

CONVOLUTION = (
    "y: f32[{n},{k},{h},{w}] = L[n:{n},k:{k},h:{h},w:{w}] sum[c:{c},i:3,j:3]{{ "
    "select(1 <= h + i < {h} + 1, select(1 <= w + j < {w} + 1, x[n,c,h+i-1,w+j-1], 0.0), 0.0) * u[k,c,i,j] }}"
)


def in_channels_last(given: Program, *names: str) -> Program:
    def one(tensor: Tensor) -> Tensor:
        return replace(tensor, layout="channels_last") if tensor.name in names else tensor

    stages = tuple(map_stage_tensors(s, one) for s in given.stages)
    inputs, outputs = (tuple(map(one, ts)) for ts in (given.inputs, given.outputs))
    return replace(given, inputs=inputs, stages=stages, outputs=outputs)


def kernel(given: Program, constants: dict[int, torch.Tensor]) -> GeneratedKernel:
    return GeneratedKernel(KernelRequest.of(given, tuple(constants), Processor(threads=2)), constants)


@pytest.mark.parametrize("size", [(2, 3, 5, 6, 8), (1, 16, 7, 7, 24), (1, 1, 4, 9, 1), (3, 20, 1, 1, 17)])
@pytest.mark.parametrize("layouts", [("x", "y"), ("x",), ("y",)])
def test_a_convolution_in_channels_last(size: tuple[int, ...], layouts: tuple[str, ...]):
    n, c, h, w, k = size
    x, u = torch.randn(n, c, h, w), torch.randn(k, c, 3, 3)
    text = CONVOLUTION.format(n=n, c=c, h=h, w=w, k=k)
    made = kernel(in_channels_last(program(text, "y", x=x, u=u), *layouts), {1: u})
    given = x.contiguous(memory_format=torch.channels_last) if "x" in layouts else x
    result = made(given)
    torch.testing.assert_close(result, torch.nn.functional.conv2d(x, u, padding=1), rtol=1e-4, atol=1e-4)
    wanted = torch.channels_last if "y" in layouts else torch.contiguous_format
    assert result.is_contiguous(memory_format=wanted)


def test_an_input_of_other_strides_is_taken_as_it_lies():
    x = torch.randn(2, 6, 4, 5)
    text = "y: f32[2,6,4,5] = L[n:2,c:6,h:4,w:5] x[n,c,h,w] * 2.0"
    made = kernel(in_channels_last(program(text, "y", x=x), "x", "y"), {})
    for given in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(made(given), x * 2)


def test_stages_hand_each_other_images_as_they_lie():
    x = torch.randn(2, 8, 3, 4)
    text = (
        "m: f32[2,8,3,4] = L[n:2,c:8,h:3,w:4] exp(x[n,c,h,w])\n"
        "s: f32[2,3,4] = L[n:2,h:3,w:4] sum[c:8]{ m[n,c,h,w] }\n"
        "y: f32[2,8,3,4] = L[n:2,c:8,h:3,w:4] m[n,c,h,w] / s[n,h,w]"
    )
    made = kernel(in_channels_last(program(text, "y", x=x), "x", "y"), {})
    torch.testing.assert_close(made(x.contiguous(memory_format=torch.channels_last)), torch.softmax(x, 1))


def test_what_cannot_be_written_so_is_refused():
    x, k = torch.randn(1, 2, 3, 4), torch.randint(4, (1, 2, 3, 4))
    text = "y: f32[1,2,3,4] = L[n:1,c:2,h:3,w:4] x[n,c,h,k[n,c,h,w]{0:4}]"
    with pytest.raises(KernelUnsupported, match="indices"):
        physical(in_channels_last(program(text, "y", x=x, k=k), "k"))
    two = "y: f32[1,2,3,4], z: f32[1,2,3,4] = L[n:1,c:2,h:3,w:4] x[n,c,h,w], exp(x[n,c,h,w])"
    given = program(two, "y, z", x=x)
    with pytest.raises(KernelUnsupported, match="two layouts"):
        physical(in_channels_last(given, "y"))
