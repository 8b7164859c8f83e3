"""A pass with an option, and a pipeline that ends with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tpopt.ir import Apply, Compute, Program, Scalar
from tpopt.ir.walk import rebuild
from tpopt.passes.pipelines import DEFAULT
from tpopt.rewrite import Numerics, Pass, Trace


@dataclass(frozen=True)
class SquareAsProduct(Pass):
    """Replaces ``pow(x, 2)`` with ``x * x``, in at most ``most`` stages."""

    name: ClassVar[str] = "square-as-product"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING
    most: int = 100

    def run(self, program: Program, trace: Trace) -> Program:
        left, stages = self.most, []
        for stage in program.stages:
            after = stage
            if isinstance(stage, Compute) and left:
                after = replace(stage, bodies=tuple(rebuild(b, _product) for b in stage.bodies))
                left -= after is not stage
            stages.append(after)
        return program.with_stages(tuple(stages))


def _product(term: Scalar) -> Scalar:
    if isinstance(term, Apply) and term.function == "pow" and getattr(term.args[1], "value", None) == 2:
        return Apply("mul", (term.args[0], term.args[0]))
    return term


PIPELINE = (*DEFAULT, SquareAsProduct(most=7))
