"""Errors of float functions in units in the last place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from support.generated import program
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest

Function = Callable[..., torch.Tensor]
BLOCK = 1 << 17


def kernel(term: str, vector_bytes: int = 64, size: int = BLOCK, dtype: torch.dtype = torch.float32) -> GeneratedKernel:
    """A generated kernel of ``term`` over x[i] and, where it is named, z[i]; takes tensors of ``size`` elements."""
    kind = {torch.float32: "f32", torch.float64: "f64"}[dtype]
    inputs = {n: torch.empty(size, dtype=dtype) for n in ("x", "z") if f"{n}[i]" in term}
    text = program(f"y: {kind}[{size}] = L[i:{size}] {term}", "y", **inputs)
    return GeneratedKernel(KernelRequest.of(text, (), Processor(vector_bytes=vector_bytes)), {})


def worst(y: torch.Tensor, exact: torch.Tensor) -> tuple[float, int]:
    """The largest error of float32 results against float64 ones, and where it is.

    Where the rounded exact result is NaN, infinite or zero, anything but the same, sign included, is infinitely wrong.
    """
    rounded = exact.float()
    power = (rounded.view(torch.int32) & 0x7F800000).view(torch.float32)
    error = (y.double() - exact).abs_().div_(power.double().mul_(2.0**-23).clamp_(min=2.0**-149))
    ends = ~torch.isfinite(rounded) | ~torch.isfinite(y) | (rounded == 0) & (y == 0)
    if bool(ends.any()):
        same = (y == rounded) & (torch.signbit(y) == torch.signbit(rounded)) | torch.isnan(y) & torch.isnan(rounded)
        error[ends] = torch.where(same[ends], 0.0, torch.inf).double()
    place = int(error.argmax())
    return float(error[place]), place


def floats(step: int) -> Iterator[torch.Tensor]:
    """Every ``step``-th of all float32 values, in blocks of one size."""
    for first in range(0, 2**32, BLOCK * step):
        numbers = torch.arange(first, first + BLOCK * step, step, dtype=torch.int64) % 2**32 - 2**31
        yield numbers.to(torch.int32).view(torch.float32)


def neighbours(*points: float) -> torch.Tensor:
    """The floats next to each point on either side of zero, as many as fill a block."""
    each = BLOCK // (2 * len(points))
    middle = torch.tensor([v for p in points for v in (p, -p)]).view(torch.int32)
    around = (middle[:, None] + torch.arange(-(each // 2), each - each // 2, dtype=torch.int32)).flatten()
    return torch.cat([around, around[: BLOCK - len(around)]]).view(torch.float32)
