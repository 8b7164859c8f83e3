"""Compose index maps into the stages that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from tpopt.ir import (
    Atom,
    Cast,
    Compute,
    Const,
    FloorDiv,
    Guard,
    Index,
    Lookup,
    Mod,
    Position,
    Program,
    Read,
    Scalar,
    Scatter,
    Select,
    Stage,
    Tensor,
    guard,
)
from tpopt.ir.index import IndexLike, index, map_atoms, walk_atoms
from tpopt.ir.walk import map_indices, postorder, rebuild, stage_reads, tensors_of_indices
from tpopt.rewrite import Numerics, Pass, Trace
from tpopt.rewrite.stages import map_nested, mentions_lookup, moved, term_indices, without_unread


@dataclass(frozen=True)
class InlineViews(Pass):
    """Replaces reads of a view (a Compute that only moves elements, or writes positions and literals) with its source.

    Readers are Compute and Scatter; a view that anything else reads, or that is an output, stays as one stage with its
    whole chain composed. The reader reads as often as before, so work never grows. Numerics: exact.

    Given::

        t: f32[4,8] = L[i0:4,i1:8] x[i1,i0]
        y: f32[4] = L[i0:4] sum[k:8]{ t[i0,k] }

    Result::

        y: f32[4] = L[i0:4] sum[k:8]{ x[k,i0] }

    A reader other than a view does not take a map with divisions (a reshape that joins axes) unless ``divisions``: the
    view costs nothing where memory can be read in place, and a reader without divisions is one that libraries know.
    ``padding`` also composes views that read under a guard and write a literal outside.
    """

    name: ClassVar[str] = "inline-views"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    divisions: bool = False
    padding: bool = False

    def run(self, program: Program, trace: Trace) -> Program:
        program = map_nested(program, lambda body: self.run(body, trace))
        inliner = _Inliner(self, trace)
        stages = without_unread([inliner.visit(s) for s in program.stages], inliner.views, program.outputs)
        return program if stages == program.stages else program.with_stages(stages)


def is_fill(term: Scalar) -> bool:
    """Whether a term is made of literals and positions alone, so that computing it is as cheap as reading it."""
    return all(isinstance(t, (Const, Position, Cast)) for t in postorder(term))


def is_index_map(term: Scalar) -> bool:
    """Whether a term is one read, at positions that no tensor decides."""
    return isinstance(term, Read) and not mentions_lookup(term)


def is_padding(term: Scalar) -> bool:
    """Whether a term is one read under a guard, and a literal outside."""
    return (
        isinstance(term, Select)
        and isinstance(term.inside, Read)
        and isinstance(term.outside, Const)
        and not mentions_lookup(term)
    )


@dataclass
class _Inliner:
    """One run; ``views`` are the composed stages of the views met so far."""

    options: InlineViews
    trace: Trace
    views: dict[Tensor, Compute] = field(default_factory=dict)

    def visit(self, stage: Stage) -> Stage:
        """The stage over the sources of the views it reads; remembered when it is a view itself."""
        found = [t for t in stage_reads(stage) if t in self.views]
        if found:
            stage = self._composed(stage, found)
        if isinstance(stage, Compute) and len(stage.outs) == 1 and self._is_view(stage.bodies[0]):
            self.views[stage.outs[0]] = stage
        return stage

    def _is_view(self, body: Scalar) -> bool:
        return is_index_map(body) or is_fill(body) or (self.options.padding and is_padding(body))

    def _composed(self, stage: Stage, found: Sequence[Tensor]) -> Stage:
        if isinstance(stage, Compute):
            free = self.options.divisions or (len(stage.bodies) == 1 and self._is_view(stage.bodies[0]))
            new: Stage = replace(stage, bodies=tuple(self._term(b, free) for b in stage.bodies))
        elif isinstance(stage, Scatter):
            value = self._term(stage.value, self.options.divisions)
            at = tuple(self._index(i) for i in stage.at)
            new = replace(stage, value=value, at=at, guard=self._guard(stage.guard))
        else:
            self._refuse(f"{type(stage).__name__} reads it whole", found, stage)
            return stage
        left = set(stage_reads(new))
        for view in found:
            if view not in left:
                self.trace.applied("ComposeView", [view.name, *(o.name for o in stage.outs)])
        refused = [view for view in found if view in left]
        whole = isinstance(new, Scatter) and new.base in refused
        self._refuse("Scatter reads it whole" if whole else "the composed index divides", refused, stage)
        return new

    def _refuse(self, reason: str, views: Sequence[Tensor], reader: Stage) -> None:
        for view in views:
            self.trace.refused("ComposeView", reason, [view.name, *(o.name for o in reader.outs)])

    def _term(self, root: Scalar, free: bool) -> Scalar:
        """A term with views composed; with ``free``, also where that brings divisions."""

        def one(term: Scalar) -> Scalar:
            view = self.views.get(term.tensor) if isinstance(term, Read) else None
            if view is None or not isinstance(term, Read):
                return term
            new = moved(view.bodies[0], view.loops, term.indices)
            return new if free or is_fill(new) or _divisions(new) <= _divisions(term) else term

        looked_up = tensors_of_indices(term_indices(root))
        return rebuild(map_indices(root, self._index) if any(t in self.views for t in looked_up) else root, one)

    def _index(self, where: Index) -> Index:
        """An index whose lookups in views are lookups in their sources, or plain positions."""

        def atom(a: Atom) -> IndexLike | None:
            if not isinstance(a, Lookup):
                return None
            inner = tuple(map_atoms(i, atom) for i in a.indices)
            low, high = map_atoms(a.low, atom), map_atoms(a.high, atom)
            view = self.views.get(a.tensor)
            source = None if view is None else moved(view.bodies[0], view.loops, inner)
            match source:
                case Read(tensor, indices):
                    return Lookup(tensor, indices, low, high)
                case Position(value):
                    return value
                case Const(int(value), _):
                    return index(value)
                case _:
                    return Lookup(a.tensor, inner, low, high)

        return map_atoms(where, atom)

    def _guard(self, condition: Guard | None) -> Guard | None:
        if condition is None:
            return None
        new = guard(*((self._index(b.low), self._index(b.value), self._index(b.high)) for b in condition.bounds))
        return new if new.bounds else None


def _divisions(term: Scalar) -> set[Atom]:
    return {a for i in term_indices(term) for a in walk_atoms(i) if isinstance(a, (FloorDiv, Mod))}
