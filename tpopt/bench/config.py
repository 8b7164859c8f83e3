"""What a benchmark is asked to do, as one value that is valid by construction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, Self, get_args

from tpopt.bench.peers import PEERS
from tpopt.bench.settings import Allocator
from tpopt.errors import UnknownName, UsageError
from tpopt.options import Choice, Effort, Options

DEFAULT_ROUNDS: Final = 15
FEWEST_ROUNDS: Final = 5
"""With fewer, a bootstrap interval of a median means little."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Options of :func:`tpopt.bench.run_suite`; a wrong one raises :class:`~tpopt.errors.UsageError`.

    Attributes:
        suite: ``"zoo"``, a path, or the name of a module with a mapping ``ZOO``.
        models: names of models or patterns such as ``gpt2_*``, or None for all.
        peers: who else runs: names in :data:`tpopt.bench.PEERS`.
        rounds: interleaved rounds; 0 takes no times. None is 15, or 0 when ``choice="model"``, which is there for the
            figures that do not depend on the machine's mood.
        choice: how tpopt chooses; with ``"model"`` its end-to-end gate is off.
        effort: tpopt's effort.
        budget: what tpopt may spend, as ``"error<=2e-2"``; the others stay in fp32.
        threads: of every contestant; None is torch's own number.
        allocator: ``"retain"`` (freed memory stays with the process) or ``"stock"``, for every contestant.
        device: where models and inputs go.
        isolate: run each model in a process of its own.
        limit_s: seconds for one model, when isolated.
        compiler: ``"module:function"`` that stands in for ``tpopt.compile``.
    """

    suite: str = "zoo"
    models: tuple[str, ...] | None = None
    peers: tuple[str, ...] = tuple(PEERS)
    rounds: int | None = None
    choice: Choice = "measured"
    effort: Effort | float = "balanced"
    budget: str | None = None
    threads: int | None = None
    allocator: Allocator = "retain"
    device: str = "cpu"
    isolate: bool = True
    limit_s: float = 1800.0
    compiler: str = "tpopt:compile"

    def __post_init__(self) -> None:
        """Checks every field."""
        for name in self.peers:
            if name not in PEERS:
                raise UnknownName("peer", name, PEERS)
        if self.rounds is not None and 0 != self.rounds < FEWEST_ROUNDS:
            raise UsageError(f"rounds={self.rounds}: expected at least {FEWEST_ROUNDS}, or 0 for no times at all")
        Options(choice=self.choice, effort=self.effort, budget=self.budget)  # says what is wrong with any
        if self.allocator not in get_args(Allocator):
            raise UsageError(f"allocator={self.allocator!r}: expected {' or '.join(get_args(Allocator))}")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads={self.threads}: expected at least 1")

    def timed_rounds(self) -> int:
        """Returns the rounds to time, by default those that suit the choice."""
        if self.rounds is not None:
            return self.rounds
        return 0 if self.choice == "model" else DEFAULT_ROUNDS

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Reads what :meth:`to_dict` wrote, after a trip through JSON."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**values)

    def same_measurement(self, other: BenchConfig) -> bool:
        """Whether rows of the two belong into one table: everything but which models, where and for how long."""
        loose: dict[str, Any] = {"models": None, "isolate": True, "limit_s": 0.0}
        return dataclasses.replace(self, **loose) == dataclasses.replace(other, **loose)
