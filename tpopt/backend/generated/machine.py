"""What a schedule must know of the processor: width and number of vector registers, threads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Processor:
    """``vector_bytes`` of one register, ``registers`` of that width, ``threads`` that a kernel may use."""

    vector_bytes: int = 64
    registers: int = 32
    threads: int = 1

    def lanes(self, itemsize: int) -> int:
        """Elements of one vector."""
        return max(2, self.vector_bytes // itemsize)


def host_processor() -> Processor:
    """The processor that this process runs on, with torch's number of threads."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    wide = "512" in capability
    return Processor(64 if wide else 32 if "AVX2" in capability else 16, 32 if wide else 16, torch.get_num_threads())
