"""What a build worker is asked for: a kernel's algebra as text, and all that its plan depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tpopt.backend.build.request import BuildRequest
from tpopt.backend.generated.decisions import Space, decode
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.physical import physical
from tpopt.backend.generated.plan import KernelPlan
from tpopt.backend.generated.planning import plan_kernel
from tpopt.backend.generated.schedule import reduced_in_vectors
from tpopt.errors import KernelUnsupported
from tpopt.ir import Program, Scan
from tpopt.ir.canonical import canonical
from tpopt.ir.parse import parse_program

ENTRY: Final = "tpopt.backend.tvm.build:build_kernel"
FUNCTION: Final = "kernel"
"""What the function of a built kernel is called."""


@cache
def generator_digest() -> str:
    """Of all that turns a request into code: what an older generator or another TVM built is not taken for its own."""
    folder = Path(__file__).parent
    found = (*folder.glob("*.py"), *folder.parent.joinpath("tvm").rglob("*.py"))
    files = sorted(f for f in found if f.parent.name not in ("tune", "cuda"))  # a search makes requests, and no code
    versions = ",".join(f"{name}={version(name)}" for name in ("apache-tvm", "apache-tvm-ffi"))
    return sha256(b"".join([versions.encode(), *(f.read_bytes() for f in files)])).hexdigest()[:16]


@dataclass(frozen=True)
class KernelRequest:
    """A kernel to build.

    ``text`` is a canonical program over tensors as they lie in memory; ``constants`` are the positions of inputs whose
    values never change, ``strides`` (elements) belong to inputs that are not dense. ``channels_last`` are positions,
    among inputs and then outputs, of tensors that come and go with their channels second. ``matrix`` asks for a kernel
    on the matrix unit. ``decisions`` is text of :mod:`tpopt.backend.generated.decisions`: how loops run, where
    tuning has decided. ``foreign`` are positions of inputs that come from outside of the plan, with nothing known about
    the memory around them. Equal requests ask for the same machine code.
    """

    text: str
    constants: tuple[int, ...]
    processor: Processor
    strides: tuple[tuple[int, tuple[int, ...]], ...] = ()
    channels_last: tuple[int, ...] = ()
    matrix: bool = False
    decisions: str = ""
    foreign: tuple[int, ...] = ()

    @staticmethod
    def of(
        program: Program,
        constants: tuple[int, ...],
        processor: Processor,
        *,
        matrix: bool = False,
        decisions: str = "",
        foreign: tuple[int, ...] = (),
    ) -> KernelRequest:
        """The request for a program, whatever the names in it, on inputs that are dense in their layouts."""
        laid_out, moved = physical(program)
        found = canonical(laid_out)
        request = KernelRequest(
            str(found),
            constants,
            processor,
            channels_last=moved,
            matrix=matrix,
            decisions=decisions,
            foreign=foreign,
        )
        request.__dict__["program"] = found  # what its text parses to
        return request

    def strided(self, strides: Mapping[int, tuple[int, ...]]) -> KernelRequest:
        """The same algebra for inputs that lie in memory in these ways, by position."""
        return replace(self, strides=tuple(sorted(strides.items())))

    @cached_property
    def program(self) -> Program:
        """The kernel's algebra under canonical names."""
        return parse_program(self.text)

    @cached_property
    def plan(self) -> KernelPlan:
        """How it is computed: the same here and in the worker. Raises :class:`KernelUnsupported`."""
        return _planned(self)

    def planned(self) -> KernelPlan:
        """:attr:`plan`, made anew."""
        names = [t.name for t in (*self.program.inputs, *self.program.outputs)]
        strides = {names[n]: s for n, s in self.strides}
        constants = frozenset(names[n] for n in self.constants)
        decisions = decode(self.decisions) if self.decisions else ()
        plan = plan_kernel(self.program, constants, self.processor, strides, matrix=self.matrix, decisions=decisions)
        moved, foreign = (frozenset(names[n] for n in found) for found in (self.channels_last, self.foreign))
        return replace(plan, channels_last=moved, foreign=foreign)

    @cached_property
    def space(self) -> Space:
        """Other ways to run its loops. Raises :class:`KernelUnsupported`, for the matrix unit as well."""
        plan = self.plan
        if not plan.nests:
            raise KernelUnsupported("a kernel on the matrix unit has no loops to decide about")
        if isinstance(self.program.stages[0], Scan):
            raise KernelUnsupported("a loop that carries a state runs in one way")
        known = {**plan.strides, **plan.steps}
        reduced = [reduced_in_vectors(n.work, self.processor, known) for n in plan.nests]
        return Space(plan, self.processor, reduced)

    @cached_property
    def digest(self) -> str:
        """A short name of the request, and of what is built for it."""
        return sha256(self.encode()).hexdigest()[:40]

    @cached_property
    def identity(self) -> str:
        """A short name of what is asked for, whichever version of the generator answers: tuning records keep it."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:40]

    def build(self) -> BuildRequest:
        """What the workers are asked."""
        return BuildRequest(ENTRY, self.encode(), self.digest)

    def encode(self) -> bytes:
        """The request as bytes: the same for equal requests, and for the same generator."""
        return json.dumps({**asdict(self), "generator": generator_digest()}, sort_keys=True).encode()

    @staticmethod
    def decode(payload: bytes) -> KernelRequest:
        """What :meth:`encode` made."""
        data = json.loads(payload)
        strides = tuple((n, tuple(s)) for n, s in data["strides"])
        processor, moved = Processor(**data["processor"]), tuple(data["channels_last"])
        fixed = tuple(data["constants"])
        foreign = tuple(data["foreign"])
        return KernelRequest(data["text"], fixed, processor, strides, moved, data["matrix"], data["decisions"], foreign)


@lru_cache(maxsize=4096)
def _planned(request: KernelRequest) -> KernelPlan:
    """The plan of a request: layers that repeat ask for the same kernel."""
    return request.planned()
