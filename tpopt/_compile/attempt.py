"""One attempt at a model: what was asked, and what each stage of compilation found on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from tpopt._compile.derivations import Prover
from tpopt._compile.factorize import Factors
from tpopt.backend.plan import Plan
from tpopt.budget import Budget
from tpopt.choose.cover import Choice
from tpopt.choose.pricing import Pricer
from tpopt.frontend.trace import Traced
from tpopt.ir import Program
from tpopt.log import record
from tpopt.options import Options
from tpopt.passes.precision.storage import Storage
from tpopt.report import ParetoRow, VerificationRow
from tpopt.rewrite import Timing, Trace
from tpopt.runtime.compiled import Specialization, State
from tpopt.sensitivity.output_error import OutputErrors
from tpopt.verify.divergence import Divergence

_SHARE: Mapping[str, float] = MappingProxyType(
    {"trace": 0.0, "clean up": 0.2, "choose": 0.3, "verify": 0.6, "race": 0.9}
)
"""How much of a compilation is done when each stage begins."""


@dataclass
class Attempt:
    """What one call of ``compile`` was asked, and what it found on the way."""

    model: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic_shapes: Any
    options: Options
    start: float
    calibration: Iterable[Any] = ()
    validation: Iterable[Any] = ()
    traced: Traced | None = None
    cleaned: Program | None = None
    forms: tuple[Program, ...] = ()
    history: Trace = field(default_factory=Trace)
    prover: Prover = field(init=False)
    timing: Timing = field(default_factory=Timing)
    choice: Choice | None = None
    pricer: Pricer | None = None
    plain: Choice | None = None
    storages: tuple[Storage, ...] = ()
    samples: list[dict[str, torch.Tensor]] = field(default_factory=list)
    errors: OutputErrors | None = None
    factors: Factors | None = None
    pareto: tuple[ParetoRow, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    verification: VerificationRow | None = None
    culprit: Divergence | None = None
    built: Built | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.prover = Prover(self.history)

    @property
    def budget(self) -> Budget:
        """What may be spent."""
        return self.options.spending

    @property
    def deadline(self) -> float:
        """When the effort is used up, on :func:`time.perf_counter`'s clock."""
        return self.start + self.options.effort_seconds()

    def until(self, share: float) -> float:
        """When a part of the time that is left will have passed, on the same clock."""
        now = time.perf_counter()
        return now + share * max(self.deadline - now, 0.0)

    def progress(self, stage: str) -> None:
        """Tells the user's callback, and whoever listens, which stage begins."""
        record(stage, "begins", seconds=round(time.perf_counter() - self.start, 3), model=type(self.model).__name__)
        if self.options.progress is not None:
            self.options.progress(stage, _SHARE[stage])


@dataclass
class Built:
    """A callable and its plan; ``rivals`` are others by name, which the last race compares it with."""

    callable: Callable[..., Any]
    plan: Plan
    specialization: Specialization
    state: State
    choice: Choice
    verification: VerificationRow | None = None
    rivals: dict[str, Built] = field(default_factory=dict)
