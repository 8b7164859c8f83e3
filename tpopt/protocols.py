"""The contracts between the rooms: the only things that passes and cost models know of the rest of the project.

They exchange Programs, stages, arrays and plain values. An implementation need not inherit from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar, runtime_checkable

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


@dataclass(frozen=True)
class AnnealerGraph:
    """A graph as an annealer takes it: by node; any sum of sizes that may be alive together is below 2^30."""

    sizes: Sequence[int]
    workspaces: Sequence[int]
    durations: Sequence[float]
    predecessors: Sequence[Sequence[int]]
    successors: Sequence[Sequence[int]]
    repeatable: Sequence[bool]


@dataclass(frozen=True)
class Moves:
    """How to anneal: ``count`` moves while the temperature falls from ``hot`` to ``cold`` (units of time).

    ``price`` is the time that a unit of size above the budget at one step costs. ``kinds`` weighs the kinds of moves:
    relocate a computation, repeat one, drop a repetition, exchange repetitions, shift a run of computations.
    """

    count: int
    hot: float
    cold: float
    price: float
    kinds: tuple[float, float, float, float, float]
    stop_within: bool = False
    """Stop at the first schedule within the budget."""


MOST_COMPUTATIONS: Final = 8
"""Computations of one node in a schedule that an annealer holds at least."""


@runtime_checkable
class Annealer(Protocol):
    """Anneals one schedule, a sequence of nodes that may repeat; deterministic for its seed."""

    def load(self, sequence: Sequence[int], budget: int) -> None:
        """Starts from a schedule; the best one so far is forgotten.

        Raises:
            ValueError: the sequence is no schedule, or has more than :data:`MOST_COMPUTATIONS` of one node.
        """
        ...

    def run(self, moves: Moves) -> int:
        """Goes on from the current schedule; returns the number of moves made."""
        ...

    def best(self) -> tuple[tuple[int, ...], float, int]:
        """The best schedule since :meth:`load`, its time, and its size above the budget, summed over the steps."""
        ...


class AnnealerFactory(Protocol):
    """Makes annealers; with ``keep_first``, first computations keep their order."""

    def __call__(self, graph: AnnealerGraph, *, keep_first: bool, seed: int) -> Annealer:
        """An annealer of the graph."""
        ...


class OffsetSearch(Protocol):
    """Places blocks of memory within a capacity by depth-first search."""

    def __call__(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        sizes: Sequence[int],
        ranks: Sequence[int],
        capacity: int,
        limit: int,
        *,
        by_rank: bool,
    ) -> tuple[int, ...] | Literal["none", "limit"]:
        """Offsets; ``none`` where there are none, ``limit`` where so many placements did not tell.

        Block ``k`` is alive in ``[starts[k], ends[k])``. ``ranks`` (a permutation) says what to try first: among equal
        offsets, or with ``by_rank`` among all blocks that may come next. The answer depends on nothing else.
        """
        ...
