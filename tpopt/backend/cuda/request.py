"""What a build worker is asked for: a kernel's algebra as text, and the card that it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from tpopt.backend.build.request import BuildRequest
from tpopt.backend.cuda.compilers import compiler_digest
from tpopt.backend.cuda.device import Device
from tpopt.backend.cuda.plan import GridPlan
from tpopt.backend.cuda.planning import plan_grid
from tpopt.backend.generated.physical import physical
from tpopt.backend.generated.request import generator_digest
from tpopt.ir import Program
from tpopt.ir.canonical import canonical
from tpopt.ir.parse import parse_program

ENTRY: Final = "tpopt.backend.tvm.cuda.build:build_cubin"


@cache
def _digest() -> str:
    """Of all that turns a request into a cubin."""
    folder = Path(__file__).parent
    files = sorted((*folder.glob("*.py"), *folder.parent.joinpath("tvm", "cuda").glob("*.py")))
    return sha256(b"".join([generator_digest().encode(), *(f.read_bytes() for f in files)])).hexdigest()[:16]


@dataclass(frozen=True)
class CudaRequest:
    """A kernel to build for a GPU.

    ``text`` is a canonical program over tensors as they lie in memory; ``strides`` (elements) belong to inputs that are
    not dense; ``channels_last`` are positions, among inputs and then outputs, of tensors that come and go with their
    channels second. Equal requests ask for the same machine code.
    """

    text: str
    device: Device
    strides: tuple[tuple[int, tuple[int, ...]], ...] = ()
    channels_last: tuple[int, ...] = ()

    @staticmethod
    def of(program: Program, device: Device) -> CudaRequest:
        """The request for a program, whatever the names in it, on inputs that are dense in their layouts."""
        laid_out, moved = physical(program)
        return CudaRequest(str(canonical(laid_out)), device, (), moved)

    def strided(self, strides: Mapping[int, tuple[int, ...]]) -> CudaRequest:
        """The same algebra for inputs that lie in memory in these ways, by position."""
        return replace(self, strides=tuple(sorted(strides.items())))

    @cached_property
    def program(self) -> Program:
        """The kernel's algebra under canonical names."""
        return parse_program(self.text)

    @cached_property
    def plan(self) -> GridPlan:
        """How it is computed: the same here and in the worker. Raises :class:`KernelUnsupported`."""
        return _planned(self)

    @cached_property
    def digest(self) -> str:
        """A short name of the request, and of what is built for it."""
        return sha256(self.encode()).hexdigest()[:40]

    @cached_property
    def identity(self) -> str:
        """A short name of the request and the generator, whichever compiler answers: files of cubins are called so."""
        return sha256(json.dumps({**asdict(self), "generator": _digest()}, sort_keys=True).encode()).hexdigest()[:40]

    def build(self) -> BuildRequest:
        """What the workers are asked."""
        return BuildRequest(ENTRY, self.encode(), self.digest)

    def encode(self) -> bytes:
        """The request as bytes: the same for equal requests, the same generator and compiler."""
        made = {"generator": _digest(), "compiler": compiler_digest()}
        return json.dumps({**asdict(self), **made}, sort_keys=True).encode()

    @staticmethod
    def decode(payload: bytes) -> CudaRequest:
        """What :meth:`encode` made."""
        data = json.loads(payload)
        strides = tuple((n, tuple(s)) for n, s in data["strides"])
        return CudaRequest(data["text"], Device(**data["device"]), strides, tuple(data["channels_last"]))


@lru_cache(maxsize=4096)
def _planned(request: CudaRequest) -> GridPlan:
    program = request.program
    names = [t.name for t in (*program.inputs, *program.outputs)]
    return plan_grid(program, request.device, {names[n]: s for n, s in request.strides})
