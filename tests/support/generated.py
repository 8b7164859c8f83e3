"""Builds and runs generated kernels from program text."""

from __future__ import annotations

import torch

from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.ir import Program
from tpopt.ir.parse import parse_program

NAMES = {v: k for k, v in {"f32": torch.float32, "f64": torch.float64, "i64": torch.int64, "bool": torch.bool}.items()}
NAMES |= {torch.float16: "f16", torch.bfloat16: "bf16", torch.complex64: "c64", torch.int32: "i32", torch.int8: "i8"}


def program(body: str, outs: str, **inputs: torch.Tensor) -> Program:
    """A program of stages over named inputs."""
    given = ", ".join(f"{n}: {NAMES[t.dtype]}[{','.join(map(str, t.shape))}]" for n, t in inputs.items())
    return parse_program(f"program p({given})\n{body}\nreturn {outs}")


def run(
    body: str,
    outs: str = "y",
    constants: tuple[str, ...] = (),
    threads: int = 1,
    *,
    matrix: bool = False,
    **inputs: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """The results of one generated kernel; ``constants`` names inputs that may be laid out anew."""
    fixed = tuple(n for n, name in enumerate(inputs) if name in constants)
    processor = Processor(threads=threads, matrix=matrix)
    request = KernelRequest.of(program(body, outs, **inputs), fixed, processor, matrix=matrix)
    kernel = GeneratedKernel(request, {n: list(inputs.values())[n] for n in fixed})
    made = kernel(*(t for name, t in inputs.items() if name not in constants))
    return made if isinstance(made, tuple) else (made,)
