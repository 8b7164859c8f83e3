"""Other programs for the regions of a program, the most promising first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from tpopt.errors import LimitExceeded
from tpopt.ir import Builder, Compute, Program
from tpopt.ir.canonical import structural_hash
from tpopt.ir.walk import stage_reads
from tpopt.passes.contraction import Cost
from tpopt.passes.derive.collapse_deltas import CollapseDeltas
from tpopt.passes.derive.derivation import Derivation, Step
from tpopt.passes.derive.estimate import Estimate, idle
from tpopt.passes.derive.form import Form, fragment_of, original
from tpopt.passes.derive.join_phases import JoinPhases
from tpopt.passes.derive.join_sums import JoinSums
from tpopt.passes.derive.merge_terms import MergeTerms
from tpopt.passes.derive.narrow_sums import NarrowSums
from tpopt.passes.derive.order_products import OrderProducts
from tpopt.passes.derive.region import Reach, Region, is_worthwhile, opened, regions
from tpopt.passes.derive.sparse_constants import SparseConstants
from tpopt.passes.derive.split_iterators import SplitIterators
from tpopt.passes.derive.split_phases import SplitPhases, components, permutations_left
from tpopt.passes.derive.split_summation import SplitSummation
from tpopt.passes.derive.strassen import Strassen
from tpopt.passes.derive.symmetric_powers import SymmetricPowers
from tpopt.passes.derive.toom_cook import ToomCook
from tpopt.rewrite import Numerics, Refusal, Trace
from tpopt.rewrite.stages import constant_tensors

LAWS = (
    SplitIterators,
    CollapseDeltas,
    NarrowSums,
    MergeTerms,
    JoinSums,
    SymmetricPowers,
    SparseConstants,
    SplitSummation,
)
"""Laws about a region's polynomial, in the order in which they are tried."""
TILES = (4, 2)
"""Results along an axis that tiles hold: larger ones save little more, and lose accuracy."""
MOST_FOLDED = 1 << 27
"""Multiply-adds that one derivation may take before the program runs: more are too long to check."""


Made_co = TypeVar("Made_co", covariant=True)


class _StageLaw(Protocol[Made_co]):
    """A law that makes something of one stage."""

    name: ClassVar[str]

    def run(self, program: Program, stage: Compute, builder: Builder) -> Made_co | Refusal:
        """What takes the stage's place, or why nothing does."""


@dataclass
class Explorer:
    """Derives the regions of one program. Names that it gives to tensors are used once, whatever region they are in."""

    program: Program
    trace: Trace
    cost: Cost = field(default_factory=Cost)
    gain: float = 0.9
    most: int = 2
    states: int = 32
    without: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.opened = opened(self.program)
        self.builder = Builder(self.opened.tensors)
        self.estimate = Estimate(self.program, self.cost)

    def run(self) -> list[list[Derivation]]:
        """For each region with a promising derivation, the best few, the best first."""
        found: dict[str, list[Derivation]] = {}
        chains: dict[str, set[tuple[str, ...]]] = {}  # of the laws that paid, by what the region is but for names
        for reach in (Reach.ALL, Reach.SUMS, Reach.PRODUCTS):
            for region in regions(self.opened, reach, self.estimate.in_library):
                if region.name in found or not is_worthwhile(region.polynomial):
                    continue
                if region.root.outs[0] not in self.program.producers:
                    continue  # inside a library call
                key = _key(self.opened, region)
                known = None if key is None else chains.get(key)  # layers repeat, and regions that reach no further
                if known is not None and not known:
                    continue
                with self.trace.at([region.name]):
                    best = self.region(region, known)
                if best:
                    found[region.name] = best
                if key is not None:
                    chains.setdefault(key, {d.laws for d in best})
        for name, derivation in (*self._phases(), *self._tiles(), *self._joins(), *self._blocks()):
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
                self.trace.offered(law.name, (), layers, law.numerics)
            constants = frozenset(constant_tensors(self.program))
            us = [self.estimate.expected(p, constants) for p in (before, after)]
            derivation = Derivation(root, before, (step,), us[1], us[0])
            if self.is_promising(derivation):
                yield component.result.name, derivation

    def _applied(self, law: _StageLaw[Made_co]) -> Iterator[tuple[Compute, Made_co]]:
        """The stages that a law applies to, and what it makes of each; while one is looked at, the trace is at it."""
        for stage in self.program.stages:
            if not isinstance(stage, Compute) or law.name in self.without:
                continue
            with self.trace.at([stage.outs[0].name]):
                made = law.run(self.program, stage, self.builder)
                if isinstance(made, Refusal):
                    self.trace.refused(law.name, made)
                else:
                    yield stage, made

    def _joins(self) -> Iterator[tuple[str, Derivation]]:
        """Sums with other taps in each phase, where a place has too few results of one phase for a vector."""
        law = JoinPhases()
        for stage, made in self._applied(law):
            before, after = (fragment_of(self.program, s, stage.outs) for s in ((stage,), made.stages))
            us = self.estimate.us(made.sums) * idle(made.results) + self.estimate.moved_us(made.root)
            step = Step(law.name, law.numerics, f"{made.results} results a place", after)
            derivation = Derivation(stage, before, (step,), us, self.estimate.us(stage) * idle(made.before))
            if not self.is_promising(derivation):
                self.trace.refused(law.name, "a place has results enough of one phase")
                continue
            self.trace.offered(law.name, (), step.detail, law.numerics)
            yield derivation.name, derivation

    def _tiles(self) -> Iterator[tuple[str, Derivation]]:
        """Sliding sums in tiles with fewer products, of the size that is expected to be quickest."""
        for stage in self.program.stages:
            if isinstance(stage, Compute) and ToomCook.name not in self.without:
                with self.trace.at([stage.outs[0].name]):
                    found = [d for m in TILES if (d := self._tiled(stage, ToomCook(m))) is not None]
                    if found:
                        best = min(found, key=lambda d: d.us)
                        (step,) = best.steps
                        self.trace.offered(step.law, (), step.detail, step.numerics)
                        yield best.name, best

    def _blocks(self) -> Iterator[tuple[str, Derivation]]:
        """Products of matrices large enough for seven products of blocks."""
        law = Strassen()
        for stage, made in self._applied(law):
            us = self.estimate.us(made.products) + sum(map(self.estimate.moved_us, (*made.moving, made.root)))
            if us >= self.estimate.us(stage):
                self.trace.refused(law.name, "sums of blocks are expected to take what products are saved")
                continue
            before = fragment_of(self.program, (stage,), stage.outs)
            after = fragment_of(self.program, made.stages, stage.outs, made.tensors)
            step = Step(law.name, law.numerics, "seven products of blocks", after)
            self.trace.offered(law.name, (), step.detail, law.numerics)
            yield stage.outs[0].name, Derivation(stage, before, (step,), us, self.estimate.us(stage))

    def _tiled(self, stage: Compute, law: ToomCook) -> Derivation | None:
        made = law.run(self.program, stage, self.builder)
        if isinstance(made, Refusal):
            self.trace.refused(law.name, made)
            return None
        us = self.estimate.us(made.products) + self.estimate.moved_us(made.data) + self.estimate.moved_us(made.root)
        if us >= self.gain * self.estimate.us(stage):
            self.trace.refused(law.name, "the transforms are expected to take what products are saved")
            return None
        before = fragment_of(self.program, (stage,), stage.outs)
        after = fragment_of(self.program, made.stages, stage.outs, made.matrices)
        step = Step(law.name, law.numerics, f"tiles of {law.outputs} results", after)
        return Derivation(stage, before, (step,), us, self.estimate.us(stage))

    def region(self, region: Region, chains: Collection[tuple[str, ...]] | None = None) -> list[Derivation]:
        """Derivations of one region that are expected to take less than :attr:`gain` of its time.

        With ``chains`` of laws, which led to the best derivations of an equal region, no others are tried.
        """
        search = _Search(self, region)
        if chains is None:
            search.run(self.states)
        else:
            search.follow(chains)
        ranked = sorted(search.found, key=lambda d: d.us)
        best = list(islice(_distinct(d for d in ranked if self.is_promising(d)), self.most))
        for derivation in best:
            for step in derivation.steps:
                self.trace.offered(step.law, [region.name], step.detail, step.numerics)
        if not best and ranked:
            self.trace.refused("Derive", "no derived program is expected to take less time than the one given")
        return best

    def is_promising(self, derivation: Derivation) -> bool:
        """Whether a derivation is expected to take less time: clearly, or a little and with fewer kernels."""
        if derivation.us < self.gain * derivation.before_us:
            return True
        return derivation.us < derivation.before_us and _kernels(derivation.result) < _kernels(derivation.original)


@dataclass
class _Search:
    """Best first over the forms of one region: the form whose best order takes least time is the next to be rewritten.

    A larger budget of states goes on where a smaller one stops, so it never finds less.
    """

    explorer: Explorer
    region: Region
    found: list[Derivation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = original(self.explorer.opened, self.region)
        self.before_us = self.explorer.estimate.expected(self.before, self.region.constants)
        self.open: list[tuple[float, int, Form, tuple[Step, ...]]] = []
        self.seen: set[str] = set()
        self.count = 0

    def run(self, states: int) -> None:
        """Visits at most ``states`` forms."""
        form, step = self._expanded()
        self._visit(form, (), step)
        while self.open and self.count < states:
            _, _, form, steps = heappop(self.open)
            for law in LAWS:
                if law.name in self.explorer.without or self.count >= states:
                    continue
                new = law().run(form, self.explorer.builder)
                if isinstance(new, Refusal):
                    self.explorer.trace.refused(law.name, new)
                    continue
                self._visit(new, steps, Step(law.name, law.numerics, "", new.program(self.explorer.opened)))

    def follow(self, chains: Collection[tuple[str, ...]]) -> None:
        """Applies these laws one after the other, the products' expansion first and their order last."""
        laws = {law.name: law for law in LAWS}
        for chain in sorted(chains):
            form, step = self._expanded()
            steps: tuple[Step, ...] = (step,)
            for law in (laws[name] for name in chain if name in laws):
                new = law().run(form, self.explorer.builder)
                if isinstance(new, Refusal):
                    self.explorer.trace.refused(law.name, new)
                    break
                form = new
                steps = (*steps, Step(law.name, law.numerics, "", new.program(self.explorer.opened)))
            else:
                self.found += self._orders(form, steps)

    def _expanded(self) -> tuple[Form, Step]:
        form = Form(self.region, self.region.polynomial)
        detail = f"{len(self.region.members)} stages as one sum of products"
        return form, Step("ExpandProducts", Numerics.REASSOCIATING, detail, form.program(self.explorer.opened))

    def _visit(self, form: Form, steps: tuple[Step, ...], step: Step) -> None:
        """Orders a form's products and puts it into the queue, unless an equal one was met."""
        key = structural_hash(step.program)
        if key in self.seen:
            return
        self.seen.add(key)
        self.count += 1
        chain = (*steps, step)
        ordered = self._orders(form, chain)
        self.found += ordered
        if ordered:
            heappush(self.open, (min(d.us for d in ordered), self.count, form, chain))

    def _orders(self, form: Form, steps: tuple[Step, ...]) -> list[Derivation]:
        return [d for fused in (False, True) if (d := self._ordered(form, steps, fused)) is not None]

    def _ordered(self, form: Form, steps: tuple[Step, ...], fused: bool) -> Derivation | None:
        explorer = self.explorer
        try:
            ordered = OrderProducts(
                explorer.opened, explorer.estimate.sizes, explorer.builder, explorer.cost, fused
            ).run(form)
        except LimitExceeded as error:
            explorer.trace.refused("OrderProducts", str(error))
            return None
        if ordered.folded_macs > MOST_FOLDED:
            explorer.trace.refused("OrderProducts", f"{ordered.folded_macs:,} multiply-adds before the program runs")
            return None
        detail = f"{ordered.macs:,} multiply-adds, {ordered.folded_macs:,} before the program runs"
        chain = (*steps, Step("OrderProducts", Numerics.REASSOCIATING, detail, ordered.program))
        us = explorer.estimate.expected(ordered.program, form.constants)
        return Derivation(self.region.root, self.before, chain, us, self.before_us, frozenset(form.tables))


def _distinct(derivations: Iterable[Derivation]) -> Iterator[Derivation]:
    """Those whose programs are equal but for names once."""
    seen: set[str] = set()
    for derivation in derivations:
        key = structural_hash(derivation.result)
        if key not in seen:
            seen.add(key)
            yield derivation


def _key(program: Program, region: Region) -> str | None:
    """What a region is but for names; ``None`` where constants have zeros, which a law may make use of."""
    before = original(program, region)
    if any(
        np.count_nonzero(region.values[w.name]) < region.values[w.name].size
        for w in before.weights
        if w.name in region.values
    ):
        return None
    return structural_hash(before)


def _kernels(program: Program) -> int:
    """Stages that are left when what depends on weights alone has been evaluated."""
    fixed, needed = set(program.weights), set(program.outputs)
    for stage in program.stages:
        if all(t in fixed for t in stage_reads(stage)):
            fixed.update(stage.outs)
    count = 0
    for stage in reversed(program.stages):
        if not fixed.issuperset(stage.outs) and needed.intersection(stage.outs):
            count += 1
            needed.update(stage_reads(stage))
    return count


def law_names() -> tuple[str, ...]:
    """Names of all laws, in the order in which they are tried."""
    stages = (SplitPhases.name, JoinPhases.name, ToomCook.name, Strassen.name)
    return ("ExpandProducts", *(law.name for law in LAWS), "OrderProducts", *stages)
