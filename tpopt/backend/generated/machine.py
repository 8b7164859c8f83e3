"""What a schedule must know of the processor: width and number of vector registers, threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from tpopt.store.records import cpu_flags, cpu_model


@dataclass(frozen=True)
class Processor:
    """``vector_bytes`` of one register, ``registers`` of that width, ``threads`` that a kernel may use.

    ``model`` is whose machine code it is: a kernel that was built for one processor is not taken for another's.
    ``matrix`` says that it has a unit that multiplies tiles of bf16 numbers (AMX), and that this process may use it.
    """

    vector_bytes: int = 64
    registers: int = 32
    threads: int = 1
    model: str = ""
    matrix: bool = False

    def lanes(self, itemsize: int) -> int:
        """Elements of one vector."""
        return max(2, self.vector_bytes // itemsize)


def host_processor() -> Processor:
    """The processor that this process runs on, with torch's number of threads."""
    capability = torch.backends.cpu.get_cpu_capability()
    wide = "512" in capability
    vector_bytes, registers = (64, 32) if wide else (32, 16) if "AVX2" in capability else (16, 16)
    return Processor(vector_bytes, registers, torch.get_num_threads(), f"{cpu_model()}, {capability}", _matrix_unit())


@cache
def _matrix_unit() -> bool:
    """Whether tiles of bf16 numbers can be multiplied; asks the kernel of the system for leave, once a process."""
    flags = cpu_flags()
    ask = getattr(torch.cpu, "_init_amx", None)
    return ask is not None and {"amx_tile", "amx_bf16"} <= flags and bool(ask())
