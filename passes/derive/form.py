"""A region on its way: a polynomial, the stages that prepare what it reads, and the program it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tpopt.ir import (
    Apply,
    Compute,
    Index,
    Iter,
    Program,
    Scalar,
    Tensor,
    const,
    index,
    rebuild,
    stage_reads,
    total,
)
from tpopt.ir.program import Array
from tpopt.passes.derive.products import Polynomial
from tpopt.passes.derive.region import Region
from tpopt.rewrite.stages import needed_stages

_NONE: Mapping[str, Array] = MappingProxyType({})


@dataclass(frozen=True)
class Split:
    """A loop of the result as two: ``whole = inner.extent * outer + inner``."""

    whole: Iter
    outer: Iter
    inner: Iter


@dataclass(frozen=True)
class Form:
    """``polynomial`` over ``loops`` in place of ``region.pivot``.

    ``prelude`` are stages that compute what the polynomial reads besides the region's own tensors; those of weights
    alone are evaluated once. ``tables`` are the values of weights that laws brought in or looked at, by name.
    ``splits`` say which loops are stated in parts; ``order`` is another order of the loops, in which the polynomial is
    computed before the root reads it in its own.
    """

    region: Region
    polynomial: Polynomial
    prelude: tuple[Compute, ...] = ()
    tables: Mapping[str, Array] = field(default_factory=lambda: _NONE)
    new_weights: tuple[Tensor, ...] = ()
    splits: tuple[Split, ...] = ()
    order: tuple[Iter, ...] = ()

    @property
    def loops(self) -> tuple[Iter, ...]:
        """The loops over which the polynomial is stated: the root's, the split ones in parts."""
        found = list(self.region.loops)
        for split in self.splits:
            at = found.index(split.whole)
            found[at : at + 1] = [split.outer, split.inner]
        same = set(found) == set(self.order)
        return self.order if same else tuple(found)

    @property
    def constants(self) -> frozenset[Tensor]:
        """Tensors whose values are known before the program runs."""
        found = set(self.region.constants).union(self.new_weights)
        for stage in self.prelude:
            if all(t in found for t in stage_reads(stage)):
                found.update(stage.outs)
        return frozenset(found)

    def program(self, program: Program) -> Program:
        """The region as a program of its own: the prelude, then the root with its sum written out."""
        stages = self.closed(written(self.polynomial, self.region.pivot))
        return fragment(program, self, (*self.prelude, *stages))

    def closed(self, value: Scalar) -> tuple[Compute, ...]:
        """The root stage with ``value`` in place of the region's sum; behind a stage over the parts of split loops."""
        root, stages = self.region.root, []
        if self.loops != root.loops:
            name = f"{self.region.name}.over.{'.'.join(i.name for i in self.loops)}"
            parts = Tensor(name, tuple(i.extent for i in self.loops), value.dtype)
            stages.append(Compute((parts,), self.loops, (value,)))
            where: dict[Iter, Index] = {i: index(i) for i in root.loops}
            for split in self.splits:
                place = where.pop(split.whole)
                where[split.outer], where[split.inner] = place // split.inner.extent, place % split.inner.extent
            value = parts.at([where[i] for i in self.loops])
        body = rebuild(root.bodies[0], lambda t: value if t is self.region.pivot else t)
        return (*stages, Compute(root.outs, root.loops, (body,)))


def fragment(program: Program, form: Form, stages: Sequence[Compute]) -> Program:
    """Stages that compute the region's result as a program."""
    return fragment_of(program, stages, form.region.root.outs, form.new_weights, form.tables)


def fragment_of(
    program: Program,
    stages: Sequence[Compute],
    outputs: tuple[Tensor, ...],
    new_weights: tuple[Tensor, ...] = (),
    tables: Mapping[str, Array] = _NONE,
) -> Program:
    """Stages as a program of their own: what they read from elsewhere are its inputs and weights."""
    whole = Program(
        "region", (), (*program.weights, *new_weights), tuple(stages), outputs,
        symbols=program.symbols, constants={**program.constants, **tables},
    )  # fmt: skip
    kept = needed_stages(whole)
    made = {o for s in kept for o in s.outs}
    read = dict.fromkeys(t for s in kept for t in stage_reads(s) if t not in made)
    weights = tuple(w for w in whole.weights if w in read)
    inputs = tuple(t for t in read if t not in weights)
    constants = {w.name: whole.constants[w.name] for w in weights if w.name in whole.constants}
    return replace(whole, inputs=inputs, weights=weights, stages=kept, constants=constants)


def original(program: Program, region: Region) -> Program:
    """The region as it stands in the program."""
    form = Form(region, region.polynomial)
    return fragment(program, form, region.members)


def written(polynomial: Polynomial, like: Scalar) -> Scalar:
    """The polynomial as a scalar term of the type of ``like``."""
    terms = [total(p.summed, multiplied(p.factors, like)) for p in polynomial]
    return terms[0] if len(terms) == 1 else Apply("add", tuple(terms))


def multiplied(factors: tuple[Scalar, ...], like: Scalar) -> Scalar:
    """The product of factors; one where there are none."""
    if not factors:
        return const(1, like.dtype)
    return factors[0] if len(factors) == 1 else Apply("mul", tuple(factors))
