"""Vector functions of float64 against the platform's extended precision, in units in the last place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.ulp import kernel

SIZE = 1 << 17
WIDTHS = (64, 32)
Wide = Callable[[np.ndarray], np.ndarray]
FUNCTIONS: dict[str, Wide] = {n: getattr(np, n) for n in "exp expm1 log log1p tanh sin cos tan".split()}
FUNCTIONS["sigmoid"] = lambda x: np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-np.abs(x)))
SIZES = (0.0, 5e-324, 1e-310, 2.0**-40, 0.5, 1.0, 2.0, 36.7, 709.8, 745.2, 1e8, 1e300, float("inf"))
SPECIAL = (float("nan"), *SIZES, *(-v for v in SIZES))


def samples() -> torch.Tensor:
    """Numbers of all sizes, most of them where functions bend, and the special ones."""
    generator = torch.Generator().manual_seed(11)
    bits = torch.randint(-(2**63), 2**63 - 1, (SIZE // 4,), generator=generator).view(torch.float64)
    normal = torch.randn(SIZE // 4, generator=generator, dtype=torch.float64)
    spread = torch.exp2(torch.rand(SIZE // 4, generator=generator, dtype=torch.float64) * 60 - 40)
    near_one = 1 + normal * 2.0**-20
    x = torch.cat([bits, normal * 3, normal * spread, near_one])
    x[: len(SPECIAL)] = torch.tensor(SPECIAL, dtype=torch.float64)
    return x


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 60, reason="the platform's long double is no more exact than float64"
)
@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_two_units_in_the_last_place_at_most(name: str, vector_bytes: int):
    x = samples()
    y = kernel(f"{name}(x[i])", vector_bytes, SIZE, torch.float64)(x).numpy()
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name](x.numpy().astype(np.longdouble))
        rounded = exact.astype(np.float64)
        ends = ~np.isfinite(rounded) | (rounded == 0)
        same = (y == rounded) & (np.signbit(y) == np.signbit(rounded)) | np.isnan(y) & np.isnan(rounded)
        unit = np.spacing(np.abs(np.where(ends, 1.0, rounded)))
        error = np.abs(y - np.where(ends, 1.0, exact)) / unit
    assert bool(same[ends].all())
    assert float(error[~ends].max()) <= 2.0
