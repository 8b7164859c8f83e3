"""From picked candidates to a Plan: order, names by layout, one producer for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tpopt.backend.plan import LAYOUT_SUFFIX, Plan, Step
from tpopt.choose.candidate import CHANNELS_LAST, Candidate, Price, Value
from tpopt.errors import InvalidProgram
from tpopt.ir import Program, Stage, Tensor
from tpopt.ir.walk import map_stage_tensors, stage_reads


def assemble(
    program: Program, picked: Sequence[Candidate], prices: Mapping[str, Price], given: frozenset[Value]
) -> Plan:
    """The plan of a solution. ``program`` gives inputs, weights and outputs."""
    steps = [_step(c, prices[c.key]) for c in _ordered(picked, given)]
    stages = tuple(s.stage for s in steps)
    used = dict.fromkeys(t for s in stages for t in stage_reads(s))
    weights = tuple(w for w in program.weights if w in used or w in program.outputs)
    planned = replace(program, stages=stages, weights=weights)
    return Plan(planned.validate(), tuple(steps))


def _step(candidate: Candidate, price: Price) -> Step:
    measured = price.us if price.measured else None
    return Step(_placed(candidate), candidate.kind, candidate.name, price.us, measured)


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


def in_layout(tensor: Tensor, layout: str) -> Tensor:
    """The plan's name of a value: ``x`` in row-major, ``x.cl`` in channels-last."""
    if layout != CHANNELS_LAST:
        return tensor
    return Tensor(tensor.name + LAYOUT_SUFFIX, tensor.shape, tensor.dtype, CHANNELS_LAST, tensor.structure)


def _ordered(picked: Sequence[Candidate], given: frozenset[Value]) -> list[Candidate]:
    """Topological order, the earliest of those that are ready first; later producers of a value are dropped."""
    have, order, waiting = set(given), [], list(picked)
    while waiting:
        ready = next((c for c in waiting if all(v in have for v in c.needs)), None)
        if ready is None:
            missing = {str(v) for c in waiting for v in c.needs if v not in have}
            raise InvalidProgram(
                f"the chosen cover is cyclic or incomplete: nobody produces {', '.join(sorted(missing))}"
            )
        waiting.remove(ready)
        if all(v in have for v in ready.produces):
            continue
        order.append(ready)
        have.update(ready.produces)
    return order
