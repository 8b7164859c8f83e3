"""A Plan: the chosen straight list of kernel calls, still a Program that prints, parses and can be interpreted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpopt.ir import Program, Stage

LAYOUT_SUFFIX = ".cl"
"""Ends the name that a plan gives to a tensor's channels-last form."""


@dataclass(frozen=True)
class Step:
    """One kernel of a plan.

    ``kind`` is the family (``original``, ``onednn``, ``gemm``, ``view``, ``layout``, …); ``predicted_us`` comes from
    the cost model, ``measured_us`` from measurement (``None`` where the choice needed none).
    """

    stage: Stage
    kind: str
    name: str
    predicted_us: float | None = None
    measured_us: float | None = None


@dataclass(frozen=True)
class Plan:
    """Steps in execution order, and the program they belong to (its stages are the steps' stages)."""

    program: Program
    steps: tuple[Step, ...]

    def count(self) -> Mapping[str, int]:
        """Number of steps by kind, sorted by kind."""
        kinds = sorted({s.kind for s in self.steps})
        return {k: sum(s.kind == k for s in self.steps) for k in kinds}

    def __str__(self) -> str:
        return str(self.program)
