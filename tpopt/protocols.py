"""The contracts between the rooms: the only things that passes and cost models know of the rest of the project.

They exchange Programs, stages, arrays and plain values. An implementation need not inherit from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from tpopt.ir import Program, Stage
from tpopt.ir.program import Array
from tpopt.rewrite.trace import Trace

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Price:
    """What running something once is expected to take; ``label`` says how that is known (``measured``, ``roofline``).

    ``microseconds`` None means that the cost model does not know: it never guesses.
    """

    microseconds: float | None
    label: str
    reason: str = ""


@dataclass(frozen=True)
class Interval:
    """A measured time: the median of one call and the ends of its 95 % interval, in microseconds."""

    label: str
    median: float
    low: float
    high: float
    runs: int


@runtime_checkable
class Target(Protocol):
    """The machine that a program is compiled for."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``, with an ordinal where there are several."""
        ...

    @property
    def threads(self) -> int:
        """Threads that one call may use."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that differs where measurements do: instruction set, threads, library versions."""
        ...


@runtime_checkable
class Pass(Protocol):
    """Rewrites a Program; :class:`tpopt.rewrite.Pass` is the base that passes share, and states the rules."""

    @property
    def name(self) -> str:
        """The name in pipelines, traces and reports."""
        ...

    def run(self, program: Program, trace: Trace) -> Program:
        """The rewritten program (the same object when nothing changed); decisions go to the trace."""
        ...


@runtime_checkable
class CostModel(Protocol):
    """Prices what could run. Deterministic: the same question has the same answer, given the same records."""

    @property
    def name(self) -> str:
        """The name in reports."""
        ...

    def price(self, work: Stage | Program, target: Target) -> Price:
        """The time of one call of a stage (a Kernel, an Opaque call, one generated kernel) or of a whole program."""
        ...


@runtime_checkable
class Measurer(Protocol):
    """Times callables against each other."""

    def measure(self, contestants: Sequence[tuple[str, Callable[[], object]]]) -> Sequence[Interval]:
        """One interval for each ``(label, call)``, from interleaved rounds in one process."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Runs programs on arrays (numpy; bf16 as its bits in ``uint16``)."""

    def evaluate(self, program: Program, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Values of the outputs by name, from values of the inputs by name; weights are the program's constants."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs tasks somewhere: in this process, in worker processes, on a cluster."""

    def map(
        self, task: Callable[[Item], Result], items: Iterable[Item], *, seconds: float | None = None
    ) -> Iterable[Result]:
        """``task`` of every item, in the order of the items; ``seconds`` bounds each task.

        A task that fails or takes too long raises where its result is asked for, and never ends this process.
        """
        ...

    def close(self) -> None:
        """Releases workers; calling it again does nothing."""
        ...
