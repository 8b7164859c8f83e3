"""A derivation: another program for a region, and the chain of programs that leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tpopt.ir import Compute, Kernel, Origin, Program, Stage
from tpopt.passes.common_subexpressions import CommonSubexpressions
from tpopt.passes.dead_code import DeadCode
from tpopt.passes.fold_constants import FoldConstants
from tpopt.rewrite import Numerics, Trace
from tpopt.rewrite.certificate import Certificate, Link

FORMULA_BYTES: Final = 1 << 20
"""Weights given by a formula are evaluated up to that size, where what they are multiplied with is constant too."""


@dataclass(frozen=True)
class Step:
    """One rewrite of a chain: the law, its label, what it did, and the region's program after it."""

    law: str
    numerics: Numerics
    detail: str
    program: Program


@dataclass(frozen=True)
class Derivation:
    """``original`` computes what ``root`` defines as the model states it, the last step's program in another way.

    ``us`` is what the program is expected to take, ``before_us`` the original, both by one formula: they decide what is
    worth a candidate, and nothing else. Both programs have the region's output under its name. ``tables`` are the
    weights whose values the laws rest on.
    """

    root: Compute
    original: Program
    steps: tuple[Step, ...]
    us: float
    before_us: float
    tables: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The tensor that is derived anew."""
        return self.root.outs[0].name

    @property
    def result(self) -> Program:
        """The derived program."""
        return self.steps[-1].program

    @property
    def laws(self) -> tuple[str, ...]:
        """Names of the laws, in order."""
        return tuple(s.law for s in self.steps)

    @property
    def numerics(self) -> Numerics:
        """The largest label among the steps."""
        return max(s.numerics for s in self.steps)

    def makes(self, program: Program) -> tuple[str, ...]:
        """Tensors that the derived program has and ``program`` has not."""
        return tuple(o.name for s in self.result.stages for o in s.outs if o.name not in program.tensors)

    def certificate(self) -> Certificate:
        """The chain as a document that :func:`tpopt.verify.replay.replay` checks without knowing any law."""
        programs = [self.original, *(s.program for s in self.steps)]
        tables = {w.name: p.constants[w.name] for p in programs for w in p.weights if w.name in self.tables}
        links = tuple(Link(s.law, s.numerics.label, s.detail, str(s.program)) for s in self.steps)
        return Certificate(self.name, str(self.original), links, tables)


def spliced(program: Program, derivations: Sequence[Derivation]) -> Program:
    """The program with each region's stages replaced, what depends on weights alone evaluated, and dead stages gone."""
    places = {d.root.outs: d for d in derivations}
    stages: list[Stage] = []
    for stage in program.stages:
        derivation = places.get(stage.outs) if isinstance(stage, (Compute, Kernel)) else None
        stages.extend((stage,) if derivation is None else derivation.result.stages)
    known = {w.name for w in program.weights}
    weights = tuple(dict.fromkeys(w for d in derivations for w in d.result.weights if w.name not in known))
    tables = {w.name: d.result.constants[w.name] for d in derivations for w in weights if w.name in d.result.constants}
    whole = program.with_stages(
        tuple(stages), weights=(*program.weights, *weights), constants={**program.constants, **tables}
    )
    whole = folded(whole)
    return replace(whole, origins={**program.origins, **_origins(program, derivations)})


def folded(program: Program) -> Program:
    """What depends on weights alone evaluated, and dead stages gone."""
    constants = FoldConstants(formula_bytes=FORMULA_BYTES, formulas=True)
    for what in (DeadCode(), constants, CommonSubexpressions(), DeadCode()):
        program = what.run(program, Trace())
    return program


def _origins(program: Program, derivations: Sequence[Derivation]) -> dict[str, Origin]:
    """What a derivation makes comes from where its result comes from."""
    found: dict[str, Origin] = {}
    for derivation in derivations:
        origin = program.origin(derivation.name)
        found.update(
            {o.name: origin for s in derivation.result.stages for o in s.outs if o.name not in program.tensors}
        )
    return found
