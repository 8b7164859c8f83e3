"""Callbacks of a pipeline: see what each pass did, how long it took, and whether it moved the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from tpopt.rewrite.passes import Step


@dataclass(frozen=True)
class PrintAfter:
    """Writes the program after each pass that changed it to a text stream."""

    stream: TextIO

    def __call__(self, step: Step) -> None:
        if step.after is not step.before:
            self.stream.write(f"# after {step.what}\n{step.after}\n\n")


@dataclass
class Timing:
    """Collects seconds by pass name; a pass that ran twice has the sum."""

    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, step: Step) -> None:
        name = step.what.name
        self.seconds[name] = self.seconds.get(name, 0.0) + step.seconds

    def rows(self) -> Mapping[str, float]:
        """Seconds by pass name, the slowest first."""
        return dict(sorted(self.seconds.items(), key=lambda row: (-row[1], row[0])))
