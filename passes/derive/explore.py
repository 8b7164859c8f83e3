"""Other programs for the regions of a program, the most promising first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from tpopt.errors import LimitExceeded
from tpopt.ir import Builder, Compute, Program, Size, Symbol, Tensor, index
from tpopt.ir.canonical import structural_hash
from tpopt.ir.index import evaluate, walk_atoms
from tpopt.ir.walk import stage_reads
from tpopt.ir.work import stage_work
from tpopt.passes.contraction import Cost
from tpopt.passes.derive.collapse_deltas import CollapseDeltas
from tpopt.passes.derive.derivation import Derivation, Step, folded
from tpopt.passes.derive.form import Form, fragment_of, original
from tpopt.passes.derive.merge_terms import MergeTerms
from tpopt.passes.derive.order_products import OrderProducts
from tpopt.passes.derive.region import Reach, Region, is_worthwhile, regions
from tpopt.passes.derive.split_phases import SplitPhases, components, permutations_left
from tpopt.passes.derive.split_summation import SplitSummation
from tpopt.passes.derive.symmetric_powers import SymmetricPowers
from tpopt.passes.derive.toom_cook import ToomCook
from tpopt.rewrite import Numerics, Refusal, Trace
from tpopt.rewrite.stages import constant_tensors

LAWS = (CollapseDeltas, MergeTerms, SymmetricPowers, SplitSummation)
"""Laws about a region's polynomial, in the order in which they are tried."""
TILES = (4, 2)
"""Results along an axis that tiles hold: larger ones save little more, and lose accuracy."""
TYPICAL = 64
"""What a run-time extent counts as where its bounds say no better."""


@dataclass
class Explorer:
    """Derives the regions of one program. Names that it gives to tensors are used once, whatever region they are in."""

    program: Program
    trace: Trace
    cost: Cost = field(default_factory=Cost)
    gain: float = 0.9
    most: int = 2
    without: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.builder = Builder(self.program.tensors)
        self.sizes = _sizes(self.program)

    def run(self) -> list[list[Derivation]]:
        """For each region with a promising derivation, the best few, the best first."""
        found: dict[str, list[Derivation]] = {}
        for reach in (Reach.ALL, Reach.SUMS, Reach.PRODUCTS):
            for region in regions(self.program, reach):
                if region.name in found or not is_worthwhile(region.polynomial):
                    continue
                with self.trace.at([region.name]):
                    best = self.region(region)
                if best:
                    found[region.name] = best
        for name, derivation in (*self._phases(), *self._tiles()):
            found.setdefault(name, []).append(derivation)
        return list(found.values())

    def _phases(self) -> Iterator[tuple[str, Derivation]]:
        """Chains of stages in phases, where they read with a step."""
        law = SplitPhases()
        for component in components(self.program) if law.name not in self.without else ():
            assert component.result is not None
            root = self.program.producers[component.result]
            assert isinstance(root, Compute)
            with self.trace.at([component.result.name]):
                stages = law.run(self.program, component, self.builder)
                if isinstance(stages, Refusal):
                    self.trace.refused(law.name, stages)
                    continue
                layers = f"{len(component.stages)} stages, {permutations_left(stages)} permutations"
                before, after = (fragment_of(self.program, s, (component.result,)) for s in (component.stages, stages))
                step = Step(law.name, law.numerics, layers, after)
                self.trace.applied(law.name, (), layers, law.numerics)
            constants = frozenset(constant_tensors(self.program))
            us = [self._expected(p, constants) for p in (before, after)]
            yield component.result.name, Derivation(root, before, (step,), us[1], us[0])

    def _tiles(self) -> Iterator[tuple[str, Derivation]]:
        """Sliding sums in tiles with fewer products."""
        for stage in self.program.stages:
            if not isinstance(stage, Compute):
                continue
            name = stage.outs[0].name
            for law in () if ToomCook.name in self.without else (ToomCook(m) for m in TILES):
                with self.trace.at([name]):
                    made = law.run(self.program, stage, self.builder)
                    if isinstance(made, Refusal):
                        self.trace.refused(law.name, made)
                        continue
                    us = (
                        self._us(stage),
                        self._us(made.products) + self._moved_us(made.data) + self._moved_us(made.root),
                    )
                    if us[1] >= self.gain * us[0]:
                        self.trace.refused(law.name, "the transforms are expected to take what products are saved")
                        continue
                    before = fragment_of(self.program, (stage,), stage.outs)
                    after = fragment_of(self.program, made.stages, stage.outs, made.matrices)
                    detail = f"tiles of {law.outputs} results"
                    self.trace.offered(law.name, (), detail, law.numerics)
                    yield name, Derivation(stage, before, (Step(law.name, law.numerics, detail, after),), us[1], us[0])

    def region(self, region: Region) -> list[Derivation]:
        """Derivations of one region that are expected to take less than :attr:`gain` of its time."""
        before = original(self.program, region)
        before_us = self._expected(before, region.constants)
        kept: dict[str, Derivation] = {}
        for form, steps in self._forms(region):
            for fused in (False, True):
                derivation = self._ordered(region, form, steps, before, before_us, fused)
                if derivation is not None:
                    kept.setdefault(structural_hash(derivation.result), derivation)
        ranked = sorted(kept.values(), key=lambda d: d.us)
        best = [d for d in ranked if self._is_promising(d)][: self.most]
        for derivation in best:
            for step in derivation.steps:
                self.trace.applied(step.law, [region.name], step.detail, step.numerics)
        if not best and ranked:
            self.trace.refused("Derive", "no derived program is expected to take less time than the one given")
        return best

    def _is_promising(self, derivation: Derivation) -> bool:
        """Whether a derivation is expected to take less time: clearly, or a little and with fewer kernels."""
        if derivation.us < self.gain * derivation.before_us:
            return True
        fewer = len(folded(derivation.result).stages) < len(folded(derivation.original).stages)
        return derivation.us < derivation.before_us and fewer

    def _forms(self, region: Region) -> Iterator[tuple[Form, tuple[Step, ...]]]:
        """The region's polynomial as expanded, and after each law that applies."""
        form = Form(region, region.polynomial)
        detail = f"{len(region.members)} stages as one sum of products"
        first = Step("ExpandProducts", Numerics.REASSOCIATING, detail, form.program(self.program))
        steps: tuple[Step, ...] = (first,)
        yield form, steps
        for law in LAWS:
            if law.name in self.without:
                continue
            new = law().run(form, self.builder)
            if isinstance(new, Refusal):
                self.trace.refused(law.name, new)
                continue
            form, steps = new, (*steps, Step(law.name, law.numerics, "", new.program(self.program)))
            yield form, steps

    def _ordered(
        self, region: Region, form: Form, steps: tuple[Step, ...], before: Program, before_us: float, fused: bool
    ) -> Derivation | None:
        try:
            ordered = OrderProducts(self.program, self.sizes, self.builder, self.cost, fused).run(form)
        except LimitExceeded as error:
            self.trace.refused("OrderProducts", str(error))
            return None
        detail = f"{ordered.macs:,} multiply-adds, {ordered.folded_macs:,} before the program runs"
        chain = (*steps, Step("OrderProducts", Numerics.REASSOCIATING, detail, ordered.program))
        us = self._expected(ordered.program, form.constants)
        return Derivation(region.root, before, chain, us, before_us, frozenset(form.tables))

    def _expected(self, program: Program, constants: frozenset[Tensor]) -> float:
        """Microseconds of a region's program, what depends on weights alone apart."""
        fixed = set(constants)
        for stage in program.stages:
            if all(t in fixed for t in stage_reads(stage)):
                fixed.update(stage.outs)
        return sum(self._us(s) for s in program.stages if isinstance(s, Compute) and s.outs[0] not in fixed)

    def _us(self, stage: Compute) -> float:
        work = stage_work(stage, self.sizes)
        elements = sum(self._elements(t.shape) for t in (*stage_reads(stage), *stage.outs))
        return float(self.cost.product(float(work.macs + work.flops // 2), elements))

    def _moved_us(self, stage: Compute) -> float:
        """Microseconds of a stage that moves more than it computes."""
        return float(self.cost.product(0.0, sum(self._elements(t.shape) for t in (*stage_reads(stage), *stage.outs))))

    def _elements(self, shape: tuple[Size, ...]) -> float:
        return float(prod(evaluate(index(e), self.sizes) for e in shape))


def _sizes(program: Program) -> dict[str, int]:
    """Typical values of the run-time sizes."""
    atoms = [a for t in program.tensors.values() for e in t.shape for a in walk_atoms(e)]
    found = dict.fromkeys((*program.symbols, *(a for a in atoms if isinstance(a, Symbol))))
    return {s.name: max(s.low, min(TYPICAL, TYPICAL if s.high is None else s.high)) for s in found}


def law_names() -> tuple[str, ...]:
    """Names of all laws, in the order in which they are tried."""
    return ("ExpandProducts", *(law.name for law in LAWS), "OrderProducts", SplitPhases.name, ToomCook.name)


def sizes_by_name(program: Program) -> Mapping[str, int]:
    """The sizes that prices assume, by symbol."""
    return _sizes(program)
