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


def agrees(function: Callable[[Tensor], Tensor], weight: Tensor) -> None:
    expected = function(weight)
    program = trace(Transformed(function, weight).eval(), (torch.ones((), dtype=torch.float64),)).algebra
    (kernel,) = (s for s in program.stages if isinstance(s, Kernel) and is_transform(s))
    torch.testing.assert_close(torch.from_numpy(transformed(kernel, weight.numpy())), expected)
    folded = FoldConstants().run(program, Trace())
    assert not any(isinstance(s, Kernel) for s in folded.stages)
    torch.testing.assert_close(torch.from_numpy(interpret(folded, [torch.ones(()).numpy()])[0]), expected)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 4, 5, 7, 8])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_transform_along_one_axis(name: str, n: int | None, norm: str):
    agrees(lambda w: getattr(torch.fft, name)(w, n=n, dim=1, norm=norm), drawn(FUNCTIONS[name]))


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("name", ["rfft2", "irfft2", "fft2", "ifft2", "rfftn", "irfftn", "fftn", "ifftn"])
def test_a_transform_along_several_axes(name: str, norm: str):
    agrees(lambda w: getattr(torch.fft, name)(w, norm=norm), drawn(FUNCTIONS[name.rstrip("2n")]))


def test_a_long_convolution_with_a_constant_keeps_two_transforms_of_three():
    stages = algebra("long_convolution").stages
    assert sum(isinstance(s, Kernel) and is_transform(s) for s in stages) == 2


def test_the_dense_matrix_of_a_long_transform_is_not_made():
    """A matrix of 2^15 rows and columns would take 17 GB."""
    agrees(lambda w: torch.fft.rfft(w), torch.randn(2, 1 << 15, dtype=torch.float64))
