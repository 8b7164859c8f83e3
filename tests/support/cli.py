"""What the fixtures of tests/cli give to a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from support.reports import OPTIMIZED
from tpopt.options import Options
from tpopt.report import Report


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@dataclass
class Compiler:
    """Stands for ``tpopt.compile``: keeps its arguments, then raises ``error`` or hands out ``report``."""

    report: Report = OPTIMIZED
    error: BaseException | None = None
    calls: list[tuple[Any, Any, Any, Options]] = field(default_factory=list)

    def __call__(self, model: Any, inputs: Any, *, kwargs: Any, options: Options) -> Any:
        self.calls.append((model, inputs, kwargs, options))
        if self.error is not None:
            raise self.error
        return SimpleNamespace(report=self.report)
