"""Simplify scalar terms by laws that hold bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tpopt.ir import Program
from tpopt.passes.algebra.casts import CASTS
from tpopt.passes.algebra.constants import CONSTANTS
from tpopt.passes.algebra.guards import GUARDS
from tpopt.passes.algebra.identities import IDENTITIES
from tpopt.rewrite import Budget, Numerics, Pass, TermRule, Trace, rewrite_terms
from tpopt.rewrite.driver import DEFAULT_STATES

RULES: tuple[TermRule, ...] = (*CASTS, *CONSTANTS, *GUARDS, *IDENTITIES)


@dataclass(frozen=True)
class Simplify(Pass):
    """Replaces a term with a simpler one when IEEE 754 and the bounds of the iterators make them equal bit for bit.

    The laws are in :mod:`tpopt.passes.algebra`: casts, literals, guards, identities. Numerics: exact.

    Given::

        y: f32[8] = L[i0:8] select(0 <= i0 < 9, f32(f64(x[i0])) * 1.0, 0.0)

    Result::

        y: f32[8] = L[i0:8] x[i0]

    ``states`` bounds the rewrites of one run.
    """

    name: ClassVar[str] = "simplify"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    states: int = DEFAULT_STATES

    def run(self, program: Program, trace: Trace) -> Program:
        return rewrite_terms(program, RULES, trace, Budget(self.states))
