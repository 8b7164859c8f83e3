"""What a schedule does to memory: the rule by which every solver's answer is judged.

It shares no code with the solvers. The rule is Moccasin's (Bartan, Li, Teague, Lott, Dilkina, ICML 2023): a copy lives
from the step that computes it to its last consumer before the next copy of the same node; what nobody consumes, and
what a computation takes beside its result, lives during its own step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.errors import InvalidProgram
from tpopt.passes.rematerialize.graph import ComputationGraph


@dataclass(frozen=True)
class Simulation:
    """Bytes alive at each step, their maximum, and the time of all steps together."""

    loads: tuple[int, ...]
    peak: int
    duration: int


def simulate(graph: ComputationGraph, sequence: Sequence[int]) -> Simulation:
    """Runs a schedule: node numbers, repeated where they are computed again.

    Raises:
        InvalidProgram: a node is missing, is computed before an operand, or is repeated although it must not be.
    """
    dies = list(range(len(sequence)))
    latest: dict[int, int] = {}
    for step, node in enumerate(sequence):
        for operand in graph.predecessors[node]:
            if operand not in latest:
                raise InvalidProgram(
                    f"step {step} computes {graph.ids[node]!r} before {graph.ids[operand]!r}, which it needs"
                )
            dies[latest[operand]] = step
        if node in latest and not graph.repeatable[node]:
            raise InvalidProgram(f"step {step} computes {graph.ids[node]!r} again, which must happen once")
        latest[node] = step
    missing = next((name for v, name in enumerate(graph.ids) if v not in latest), None)
    if missing is not None:
        raise InvalidProgram(f"the schedule never computes {missing!r}")
    freed = [0] * (len(sequence) + 1)
    for step, node in enumerate(sequence):
        freed[dies[step] + 1] += graph.sizes[node]
    loads, live = [], 0
    for step, node in enumerate(sequence):
        live += graph.sizes[node] - freed[step]
        loads.append(live + graph.workspaces[node])
    return Simulation(tuple(loads), max(loads), sum(graph.durations[v] for v in sequence))
