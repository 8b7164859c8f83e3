"""What a grid of threads must know of the GPU that it runs on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import torch

from tpopt.errors import UsageError

WARP: Final = 32
"""Threads that run in step, and can hand each other registers."""
STATIC_SHARED_BYTES: Final = 48 << 10
"""Shared memory of a block that needs no leave of the driver (CUDA C++ Programming Guide, "Compute Capabilities")."""
ACCELERATED: Final = (9, 10, 12)
"""Major versions with instructions of one card's own, which are named with an ``a`` behind the number."""
_ARCH = re.compile(r"sm_(\d{2,3})a?")
_MULTIPROCESSORS: Final = {"sm_80": 108, "sm_86": 84, "sm_89": 128, "sm_90": 132}
_COMMON_MULTIPROCESSORS: Final = 100


@dataclass(frozen=True)
class Device:
    """A CUDA GPU: its architecture as nvcc names it, and how many multiprocessors want work."""

    arch: str
    multiprocessors: int

    @staticmethod
    def of(arch: str) -> Device:
        """A card of an architecture, such as ``sm_80`` (A100) or ``sm_90a`` (H100, H200); none need be here.

        Raises :class:`UsageError` for another form of name.
        """
        if not _ARCH.fullmatch(arch):
            raise UsageError(f"arch={arch!r}: expected an architecture of CUDA, such as sm_80 or sm_90a")
        return Device(arch, _MULTIPROCESSORS.get(arch.rstrip("a"), _COMMON_MULTIPROCESSORS))


def present_device(device: torch.device) -> Device:
    """The card of a torch device."""
    facts = torch.cuda.get_device_properties(device)
    suffix = "a" if facts.major in ACCELERATED else ""
    return Device(f"sm_{facts.major}{facts.minor}{suffix}", facts.multi_processor_count)
