"""Rematerialization: when to compute what, and what to compute again, to keep a memory budget in the least time.

A schedule is a sequence of the nodes of a graph in which nodes may repeat. :func:`rematerialize` finds one,
:func:`simulate` judges it; `docs/remat.md` has the model, the methods and measured tables.
"""

from __future__ import annotations

from tpopt.passes.rematerialize.graph import ComputationGraph, read_graph
from tpopt.passes.rematerialize.schedule import Schedule, budget_in_bytes
from tpopt.passes.rematerialize.simulate import Simulation, simulate
from tpopt.passes.rematerialize.solve import Mode, Search, rematerialize

__all__ = [
    "ComputationGraph",
    "Mode",
    "Schedule",
    "Search",
    "Simulation",
    "budget_in_bytes",
    "read_graph",
    "rematerialize",
    "simulate",
]
