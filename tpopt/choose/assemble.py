"""From picked candidates to a Plan: order, names by layout, one producer for each value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush

from tpopt.backend.plan import Plan, Step
from tpopt.choose.candidate import Candidate, Price, Value, in_layout
from tpopt.errors import InvalidProgram
from tpopt.ir import Program, Stage
from tpopt.ir.walk import map_stage_tensors, stage_reads


def assemble(
    program: Program, picked: Sequence[Candidate], prices: Mapping[str, Price], given: frozenset[Value]
) -> Plan:
    """The plan of a solution. ``program`` gives inputs, weights and outputs."""
    steps = [_step(c, prices[c.key]) for c in _ordered(program, picked, given)]
    stages = tuple(s.stage for s in steps)
    used = dict.fromkeys(t for s in stages for t in stage_reads(s))
    weights = tuple(w for w in program.weights if w in used or w in program.outputs)
    planned = replace(program, stages=stages, weights=weights)
    return Plan(planned.validate(), tuple(steps))


def _step(candidate: Candidate, price: Price) -> Step:
    measured = price.us if price.measured else None
    predicted = price.us if price.predicted is None else price.predicted
    return Step(_placed(candidate), candidate.kind, candidate.name, predicted, measured)


def _placed(candidate: Candidate) -> Stage:
    """The stage with every value under the name of its layout."""
    if candidate.kind == "layout":
        return _conversion(candidate)
    wanted = {v.name: v.layout for v in (*candidate.needs, *candidate.produces)}
    return map_stage_tensors(candidate.stage, lambda t: in_layout(t, wanted.get(t.name, "")))


def _conversion(candidate: Candidate) -> Stage:
    need, make = candidate.needs[0], candidate.produces[0]
    source = stage_reads(candidate.stage)[0]
    target = candidate.stage.outs[0]
    mapping = {source: in_layout(source, need.layout), target: in_layout(source, make.layout)}
    return map_stage_tensors(candidate.stage, lambda t: mapping.get(t, t))


def _ordered(program: Program, picked: Sequence[Candidate], given: frozenset[Value]) -> list[Candidate]:
    """Topological order, as near to the program's as it goes; a candidate whose values are all there is dropped."""
    place = {out.name: k for k, stage in enumerate(program.stages) for out in stage.outs}
    ranks = [max((place.get(v.name, 0) for v in c.produces), default=0) for c in picked]
    users: dict[Value, list[int]] = {}
    for k, candidate in enumerate(picked):
        for value in dict.fromkeys(v for v in candidate.needs if v not in given):
            users.setdefault(value, []).append(k)
    missing = Counter(k for waiting in users.values() for k in waiting)
    have = set(given)
    order: list[Candidate] = []
    ready = [(rank, k) for k, rank in enumerate(ranks) if not missing[k]]
    heapify(ready)
    while ready:
        _, k = heappop(ready)
        fresh = [v for v in picked[k].produces if v not in have]
        if fresh or not picked[k].produces:
            order.append(picked[k])
        have.update(fresh)
        for user in (u for v in fresh for u in users.pop(v, ())):
            missing[user] -= 1
            if not missing[user]:
                heappush(ready, (ranks[user], user))
    if users:
        names = ", ".join(sorted(map(str, users)))
        raise InvalidProgram(f"the chosen cover is cyclic or incomplete: nobody produces {names}")
    return order
