"""The cheapest cover of a program's values by candidates, as a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from tpopt.backend.plan import Plan
from tpopt.choose.assemble import assemble
from tpopt.choose.candidate import Candidates, Price, Value
from tpopt.choose.solve import Holding, Solution, Spending, solve
from tpopt.ir import Opaque, Program, Tensor
from tpopt.rewrite.numerics import Numerics


@dataclass(frozen=True)
class Choice:
    """A plan and the reasons for it."""

    plan: Plan
    solution: Solution
    found: Candidates
    prices: dict[str, Price]
    spending: tuple[Spending, ...] = ()
    """The budgets that it keeps: accuracy, where an earlier cover had lost too much of it."""


def solved(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    prices: dict[str, Price],
    spending: Sequence[Spending] = (),
    *,
    approximate: bool = False,
    penalties: Mapping[str, float] = MappingProxyType({}),
    holding: Holding | None = None,
) -> Choice:
    """The cheapest cover within the budgets; ``approximate`` lets candidates in that only a budget for accuracy admits.

    ``penalties`` are added to prices, by name of the candidate; ``holding`` counts bytes of constants.

    Raises :class:`InvalidProgram` where there is none.
    """
    admitted = [c for c in found.admitted if approximate or c.numerics is not Numerics.APPROXIMATE]
    weights = tuple(dict.fromkeys((*_weights(original, *forms), *found.weights)))
    whole = replace(original, weights=weights)
    given = frozenset(Value(t.name) for t in (*whole.inputs, *whole.weights))
    effects = [o for s in whole.stages if isinstance(s, Opaque) and s.effectful for o in s.outs]
    wanted = dict.fromkeys(Value(t.name) for t in (*whole.outputs, *effects))
    solution = solve(
        admitted, prices, given, list(wanted), spending, wide=found.wide, penalties=penalties, holding=holding
    )
    plan = assemble(whole, solution.picked, prices, given)
    return Choice(plan, solution, found, prices, tuple(spending))


def _weights(*programs: Program) -> tuple[Tensor, ...]:
    return tuple(dict.fromkeys(w for program in programs for w in program.weights))
