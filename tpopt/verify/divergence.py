"""The first stage at which two runs of one program part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from tpopt.ir import aten
from tpopt.ir.dtypes import DType
from tpopt.ir.program import Program
from tpopt.ir.terms import Tensor
from tpopt.verify.tolerance import EPSILON, exact_type, floor_of, relative_error

Stream: TypeAlias = Mapping[str, Any]
"""Values of tensors by name: torch tensors or numpy arrays (bf16 as its bits in ``uint16``)."""


@dataclass(frozen=True)
class Divergence:
    """A tensor whose values differ, while those before it agree.

    Attributes:
        name: the tensor.
        position: number of its stage in the program.
        l2_rel: relative L2 error of the second run against the first, over what is finite in both.
        limit: the error that would have been in order.
        invented: elements that only the second run has NaN or infinite.
        lines: the user's source lines.
        module: path of the user's module.
    """

    name: str
    position: int
    l2_rel: float
    limit: float
    invented: int
    lines: tuple[str, ...]
    module: str

    def __str__(self) -> str:
        where = "; ".join(self.lines) or "no source line"
        module = f", {self.module}" if self.module else ""
        figures = f"relative L2 error {self.l2_rel:.1e}, expected at most {self.limit:.1e}"
        invented = f", {self.invented} elements turned NaN or infinite" if self.invented else ""
        return f"stage {self.name} ({where}{module}): {figures}{invented}"


def first_divergence(
    program: Program, run_a: Stream, run_b: Stream, *, baseline: Stream | None = None
) -> Divergence | None:
    """Names the first stage in program order whose values differ beyond rounding.

    Args:
        program: whose stages to walk; tensors that a run lacks are passed over.
        run_a: values to trust.
        run_b: values in question.
        baseline: values of a run that rounds as ``run_b`` should; twice its error is in order.

    Returns:
        The first difference, or None when the runs agree on every tensor that both have.
    """
    for position, stage in enumerate(program.stages):
        for tensor in stage.outs:
            if tensor.name not in run_a or tensor.name not in run_b:
                continue
            found = _difference(program, tensor, position, run_a, run_b, baseline or {})
            if found is not None:
                return found
    return None


def _difference(
    program: Program, tensor: Tensor, position: int, run_a: Stream, run_b: Stream, baseline: Stream
) -> Divergence | None:
    a, b = _plain(run_a[tensor.name], tensor), _plain(run_b[tensor.name], tensor)
    allowed = floor_of(EPSILON[tensor.dtype] / EPSILON[DType.F32]) if tensor.dtype in EPSILON else 0.0
    if a.shape != b.shape:
        return _found(program, tensor, position, float("inf"), allowed, 0)
    finite = a.isfinite()
    both = finite & b.isfinite()
    invented = int((finite & ~b.isfinite()).sum())
    error = relative_error(b[both], a[both])
    if tensor.name in baseline:
        usual = _plain(baseline[tensor.name], tensor)
        steady = both & usual.isfinite()
        invented = int((finite & usual.isfinite() & ~b.isfinite()).sum())
        allowed = max(allowed, 2 * relative_error(usual[steady], a[steady]))
    if error <= allowed and not invented:
        return None
    return _found(program, tensor, position, error, allowed, invented)


def _found(program: Program, tensor: Tensor, position: int, error: float, allowed: float, invented: int) -> Divergence:
    origin = program.origin(tensor.name)
    return Divergence(tensor.name, position, error, allowed, invented, origin.lines, origin.module)


def _plain(value: Any, tensor: Tensor) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        exact = exact_type(value)
    elif value.dtype == np.uint16:
        exact = exact_type(aten.from_numpy(value, tensor.dtype))
    else:
        exact = exact_type(torch.from_numpy(np.array(value)))
    return exact if exact.is_floating_point() or exact.is_complex() else exact.to(torch.float64)
