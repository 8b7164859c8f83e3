"""Fourier transforms of weights are evaluated by the fast algorithm, to what torch computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.derivations import algebra
from torch import Tensor

from tpopt.frontend.trace import trace
from tpopt.ir import Kernel
from tpopt.ir.interpret import interpret
from tpopt.passes.algebra.transforms import is_transform, transformed
from tpopt.passes.fold_constants import FoldConstants
from tpopt.rewrite import Trace

REAL, HALF, COMPLEX = "real", "half", "complex"
FUNCTIONS = {"rfft": REAL, "ihfft": REAL, "irfft": HALF, "hfft": HALF, "fft": COMPLEX, "ifft": COMPLEX}
SHAPE = (3, 5, 6)


class Transformed(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], weight: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return x * self.function(self.weight)


def drawn(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, dtype=torch.float64 if kind == REAL else torch.complex128, generator=generator)


def evaluated(function: Callable[[Tensor], Tensor], weight: Tensor) -> tuple[Tensor, Tensor]:
    """The transform of a weight by the kernel's own algorithm, and what a model computes once it is folded."""
    program = trace(Transformed(function, weight).eval(), (torch.ones((), dtype=torch.float64),)).algebra
    (kernel,) = (s for s in program.stages if isinstance(s, Kernel) and is_transform(s))
    folded = FoldConstants().run(program, Trace())
    assert not any(isinstance(s, Kernel) for s in folded.stages)
    (result,) = interpret(folded, [torch.ones(()).numpy()])
    return torch.from_numpy(transformed(kernel, weight.numpy())), torch.from_numpy(result)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 4, 5, 7, 8])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_transform_along_one_axis(name: str, n: int | None, norm: str):
    weight = drawn(FUNCTIONS[name])
    expected = getattr(torch.fft, name)(weight, n=n, dim=1, norm=norm)
    for found in evaluated(lambda w: getattr(torch.fft, name)(w, n=n, dim=1, norm=norm), weight):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("name", ["rfft2", "irfft2", "fft2", "ifft2", "rfftn", "irfftn", "fftn", "ifftn"])
def test_a_transform_along_several_axes(name: str, norm: str):
    weight = drawn(FUNCTIONS[name.rstrip("2n")])
    expected = getattr(torch.fft, name)(weight, norm=norm)
    for found in evaluated(lambda w: getattr(torch.fft, name)(w, norm=norm), weight):
        torch.testing.assert_close(found, expected)


def test_a_long_convolution_with_a_constant_keeps_two_transforms_of_three():
    stages = algebra("long_convolution").stages
    assert sum(isinstance(s, Kernel) and is_transform(s) for s in stages) == 2


def test_the_dense_matrix_of_a_long_transform_is_not_made():
    """A matrix of 2^15 rows and columns would take 17 GB."""
    weight = torch.randn(2, 1 << 15, dtype=torch.float64)
    for found in evaluated(torch.fft.rfft, weight):
        torch.testing.assert_close(found, torch.fft.rfft(weight))
