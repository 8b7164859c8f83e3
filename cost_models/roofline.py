"""Roofline: a kernel takes as long as its arithmetic or its traffic, whichever is longer, and the call itself.

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _efficiency() -> Mapping[str, float]:
    return MappingProxyType(
        {"onednn": 0.9, "gemm": 0.7, "original": 0.6, "layout": 1.0, "view": 1.0, "generated": 0.45}
    )


@dataclass(frozen=True)
class Balance:
    """A machine: multiply-adds and bytes a microsecond, and the microseconds one call costs.

    ``call_us`` is an operator's overhead, ``primitive_us`` a oneDNN primitive's. The defaults are a 2-core AVX-512
    server (90 GMAC/s, 33 GB/s, 2 and 12 µs): fixed, so that choices by the model alone are the same everywhere.
    ``efficiency`` is the share of the peak that kernels of a kind reach on long loops.
    """

    macs_per_us: float = 90e3
    bytes_per_us: float = 33e3
    call_us: float = 2.0
    primitive_us: float = 12.0
    efficiency: Mapping[str, float] = field(default_factory=_efficiency)


@dataclass(frozen=True)
class RooflineModel:
    """Prices a kernel from its work alone."""

    balance: Balance = Balance()

    def price(self, kind: str, macs: float, flops: float, traffic: float) -> float:
        """Microseconds of one call: ``macs`` multiply-adds, ``flops`` other operations, ``traffic`` bytes."""
        reached = self.balance.efficiency.get(kind, 0.5)
        arithmetic = (macs + flops / 2) / (self.balance.macs_per_us * reached)
        overhead = self.balance.primitive_us if kind == "onednn" else self.balance.call_us
        return max(arithmetic, traffic / self.balance.bytes_per_us) + overhead
