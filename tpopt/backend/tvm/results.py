"""Evaluates and stores the results of one tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tpopt.backend.generated.plan import Case
from tpopt.backend.tvm.code import Code, Expr, splat
from tpopt.backend.tvm.elements import widened
from tpopt.backend.tvm.operands import Operand, Operands, both
from tpopt.backend.tvm.tiles import Step
from tpopt.backend.tvm.values import Context, Evaluator
from tpopt.ir import Scalar

AT_ONCE: Final = 4
"""Steps of a tile whose results are computed side by side: they hide each other's latency, and fit into registers."""


def write(code: Code, operands: Operands, evaluator: Evaluator, only: Expr | None = None) -> None:
    """Computes and stores the results of an evaluator's tile; ``only`` where a scalar condition holds, if given."""
    nest = evaluator.nest
    for case in nest.work.cases:
        context = _context(case)
        steps = evaluator.tile.steps(nest.order)
        for some in (steps[n : n + AT_ONCE] for n in range(0, len(steps), AT_ONCE)):
            with evaluator.at(some):
                for body in case.bodies:
                    evaluator.evaluate(body, context)
            for out, body in zip(nest.work.outs, case.bodies, strict=True):
                _store(code, evaluator, case, operands[out.name], body, some, only)


def _context(case: Case) -> Context:
    return () if case.guard is None else ((case.guard, True),)


def _store(
    code: Code,
    evaluator: Evaluator,
    case: Case,
    operand: Operand,
    body: Scalar,
    steps: Sequence[Step],
    only: Expr | None,
) -> None:
    tile, context = evaluator.tile, _context(case)
    lanes = tile.lanes if tile.vector in evaluator.nest.order else 1
    for step in steps:
        where = operand.offset(case.where, tile.place(step), evaluator.indices)
        value = widened(evaluator.get(body, context, step), lanes)
        mask = both(evaluator.mask(context, step), tile.mask if lanes > 1 else None, lambda m: splat(m, lanes))
        operand.store(code, where, value, lanes, both(mask, only, lambda m: splat(m, lanes)))
