"""How far a result may be from the truth, by the label of the rewrites that led to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch

from tpopt.ir.dtypes import DType
from tpopt.ir.program import Program
from tpopt.rewrite.numerics import Numerics

FLOOR = 2e-6
"""Relative L2 error that a reassociated program may always have, in fp32 (about 17 units in the last place)."""
EAGER_FACTOR = 2.0
"""Times eager's own error against float64."""
ADVERSARIAL_FACTOR = 10.0
"""How much looser the limit is on adversarial inputs, where errors of any two orders of summation differ widely."""
_FLOAT64_FLOOR = 1e-12
_SQUARABLE = 1e150
"""Sums of squares of doubles below this, and above its inverse, neither overflow nor vanish."""

EPSILON: Mapping[DType, float] = MappingProxyType(
    {
        DType.F64: 2.0**-52,
        DType.C128: 2.0**-52,
        DType.F32: 2.0**-23,
        DType.C64: 2.0**-23,
        DType.F16: 2.0**-10,
        DType.BF16: 2.0**-7,
    }
)
"""Distance from 1 to the next number of each type."""


def coarseness(program: Program) -> float:
    """The unit roundoff of a program's coarsest float type, relative to that of fp32."""
    units = [EPSILON[t.dtype] for t in program.tensors.values() if t.dtype in EPSILON]
    return max(units, default=EPSILON[DType.F32]) / EPSILON[DType.F32]


def floor_of(coarse: float) -> float:
    """The error that is always allowed to a program of that :func:`coarseness`."""
    return max(FLOOR * coarse, _FLOAT64_FLOOR)


def limit(
    numerics: Numerics, eager: float, tolerance: float, coarse: float = 1.0, *, adversarial: bool = False
) -> float:
    """The largest relative L2 error against float64 at which a result is admitted.

    ``exact`` admits only what is bit for bit the original (limit 0); ``rounding`` and ``reassociating`` twice eager's
    own error, at least 2e-6 in fp32 and in proportion to the type's unit roundoff elsewhere; ``conditioning`` also
    ``tolerance``, in the same proportion; ``approximate`` also ``tolerance`` as it is: a budget that the user named.
    """
    if numerics is Numerics.EXACT:
        return 0.0
    allowed = max(EAGER_FACTOR * eager, floor_of(coarse))
    if numerics is Numerics.CONDITIONING:
        allowed = max(allowed, tolerance * max(coarse, 1.0))
    if numerics is Numerics.APPROXIMATE:
        allowed = max(allowed, tolerance)
    return allowed * ADVERSARIAL_FACTOR if adversarial else allowed


def exact_type(value: torch.Tensor) -> torch.Tensor:
    """The value in float64, complex128, int64 or bool, on the CPU."""
    value = value.detach().resolve_conj().resolve_neg().cpu()
    if value.is_complex():
        return value.to(torch.complex128)
    if value.is_floating_point():
        return value.to(torch.float64)
    return value if value.dtype is torch.bool else value.to(torch.int64)


def norm(value: torch.Tensor) -> float:
    """The L2 norm of doubles, without overflow or underflow on the way; not finite where an element is not."""
    plain = float(torch.linalg.vector_norm(value)) if value.numel() else 0.0
    if 1 / _SQUARABLE < plain < _SQUARABLE:
        return plain
    largest = float(value.abs().max()) if value.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * float(torch.linalg.vector_norm(value / largest))


def finite_norm(value: torch.Tensor) -> float:
    """The L2 norm of what is finite."""
    found = norm(value)
    return found if math.isfinite(found) else norm(value[value.isfinite()])


def relative_error(value: torch.Tensor, reference: torch.Tensor, scale: float = 0.0) -> float:
    """``|value - reference| / max(|reference|, scale)`` in L2; 0 without a difference, infinite without a base."""
    error, base = norm(value - reference), max(norm(reference), scale)
    if error == 0:
        return 0.0
    return error / base if base > 0 else float("inf")
