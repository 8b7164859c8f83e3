"""What a schedule must know of the processor: width and number of vector registers, threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tpopt.store.records import cpu_model


@dataclass(frozen=True)
class Processor:
    """``vector_bytes`` of one register, ``registers`` of that width, ``threads`` that a kernel may use.

    ``model`` is whose machine code it is: a kernel that was built for one processor is not taken for another's.
    """

    vector_bytes: int = 64
    registers: int = 32
    threads: int = 1
    model: str = ""

    def lanes(self, itemsize: int) -> int:
        """Elements of one vector."""
        return max(2, self.vector_bytes // itemsize)


def host_processor() -> Processor:
    """The processor that this process runs on, with torch's number of threads."""
    capability = torch.backends.cpu.get_cpu_capability()
    wide = "512" in capability
    vector_bytes, registers = (64, 32) if wide else (32, 16) if "AVX2" in capability else (16, 16)
    return Processor(vector_bytes, registers, torch.get_num_threads(), f"{cpu_model()}, {capability}")
