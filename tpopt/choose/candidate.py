"""Candidates: ways to produce values. A value is a tensor in a physical layout."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from tpopt.backend.plan import LAYOUT_SUFFIX
from tpopt.ir import Kernel, Stage, Tensor
from tpopt.ir.program import Array
from tpopt.rewrite.numerics import Numerics

ROW = ""
"""Row-major (or whatever strides the operator chain yields by default)."""
CHANNELS_LAST = "channels_last"
CONVERSIONS = frozenset({"layout", "convert"})


@dataclass(frozen=True)
class Value:
    """A tensor by name, in a layout."""

    name: str
    layout: str = ROW

    def __str__(self) -> str:
        return f"{self.name}@{self.layout}" if self.layout else self.name


def in_layout(tensor: Tensor, layout: str) -> Tensor:
    """The plan's name of a value: ``x`` in row-major, ``x.cl`` in channels-last."""
    if layout != CHANNELS_LAST:
        return tensor
    return Tensor(tensor.name + LAYOUT_SUFFIX, tensor.shape, tensor.dtype, CHANNELS_LAST, tensor.structure)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to produce ``produces`` from ``needs``.

    ``name`` is unique within a choice and stable between runs. ``kind`` is ``original``, ``onednn``, ``gemm``,
    ``view``, ``layout``, … ``stage`` is what runs (Opaque or Kernel); ``key`` names its price in the measurement
    records (equal keys, equal work). ``free`` marks pure bookkeeping (views) whose price is the call alone.
    ``covers`` are the tensors whose computation it replaces, for the report.
    """

    name: str
    kind: str
    stage: Stage
    needs: tuple[Value, ...]
    produces: tuple[Value, ...]
    key: str
    numerics: Numerics = Numerics.EXACT
    covers: tuple[str, ...] = ()
    free: bool = False

    @property
    def converts(self) -> bool:
        """Whether it makes another layout, or another type, of a value that is there, and computes nothing."""
        return self.kind in CONVERSIONS

    def computes(self) -> tuple[str, ...]:
        """Names of the tensors that it computes on the way, what it produces among them."""
        inside = self.stage.defines if isinstance(self.stage, Kernel) else ()
        return tuple(dict.fromkeys([*(o.name for s in inside for o in s.outs), *(v.name for v in self.produces)]))


@dataclass(frozen=True)
class Price:
    """Microseconds: an estimate with, where it was measured, the interval of the median."""

    us: float
    low: float | None = None
    high: float | None = None
    measured: bool = False
    predicted: float | None = None


@dataclass(frozen=True)
class Refused:
    """A candidate that was not admitted, and why."""

    name: str
    kind: str
    covers: tuple[str, ...]
    reason: str


@dataclass
class Candidates:
    """Everything the chooser may pick from, in a deterministic order.

    ``weights`` are constants that they alone read; ``wide`` has the name of the value that each narrow one stands for.
    ``unbuilt`` are kernels that were left out because no plan is expected to gain by them, with the reason: a later
    choice among fewer candidates may think otherwise.
    """

    admitted: list[Candidate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    weights: dict[Tensor, Array] = field(default_factory=dict)
    wide: dict[str, str] = field(default_factory=dict)
    unbuilt: dict[Candidate, str] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        """Admits a candidate."""
        self.admitted.append(candidate)

    def without(self, lost: Collection[Candidate], reason: str) -> Candidates:
        """The same, with some refused that were admitted."""
        refused = [*self.refused, *(Refused(c.name, c.kind, c.covers, reason) for c in lost)]
        unbuilt = {c: why for c, why in self.unbuilt.items() if c not in lost}
        return replace(self, admitted=[c for c in self.admitted if c not in lost], refused=refused, unbuilt=unbuilt)

    def refuse(self, name: str, kind: str, covers: tuple[str, ...], reason: str) -> None:
        """Notes what was not admitted."""
        self.refused.append(Refused(name, kind, covers, reason))
