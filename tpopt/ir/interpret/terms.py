"""Facts about the terms of one stage: what each depends on, and under which guards it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from tpopt.ir.index import Index, Iter, walk_atoms
from tpopt.ir.terms import Guard, Reduce, Scalar, Select
from tpopt.ir.walk import children, own_indices, postorder

Context: TypeAlias = "tuple[tuple[Guard, bool], ...]"  # guards of the enclosing selects, and whether each must hold
_MANY = 8  # a term reached under more contexts than this is taken to be protected


def shared(term: Reduce) -> Reduce:
    """The reduction whatever component is picked: stages with several outputs compute it once."""
    return term if term.pick == 0 else Reduce(term.monoid, term.iters, term.bodies)


def iters_of(indices: Iterable[Index]) -> dict[Iter, None]:
    """Iterators that indices depend on, nested ones included."""
    return {a: None for i in indices for a in walk_atoms(i) if isinstance(a, Iter)}


@dataclass(frozen=True)
class StageTerms:
    """The terms of one stage over its loops; of a scatter, also the positions it writes and its guard."""

    name: str
    loops: tuple[Iter, ...]
    roots: tuple[Scalar, ...]
    positions: tuple[Index, ...] = ()
    guard: Guard | None = None

    @cached_property
    def postorder(self) -> Sequence[Scalar]:
        return postorder(*self.roots)

    @cached_property
    def iters(self) -> tuple[Iter, ...]:
        """Every iterator: loops first, then reduced ones from the inside out."""
        reduced = (i for t in self.postorder if isinstance(t, Reduce) for i in t.iters)
        return tuple(dict.fromkeys((*self.loops, *reduced)))

    @cached_property
    def _bit(self) -> dict[Iter, int]:
        return {i: 1 << n for n, i in enumerate(self.iters)}

    @cached_property
    def _masks(self) -> dict[Scalar, int]:
        masks: dict[Scalar, int] = {}
        for term in self.postorder:
            mask = self._mask_of(iters_of(own_indices(term)))
            for child in children(term):
                mask |= masks[child]
            if isinstance(term, Reduce):
                mask &= ~self._mask_of(term.iters)
                masks[shared(term)] = mask
            masks[term] = mask
        return masks

    def _mask_of(self, iters: Iterable[Iter]) -> int:
        mask = 0
        for i in iters:
            mask |= self._bit.get(i, 0)
        return mask

    def free(self, *terms: Scalar) -> tuple[Iter, ...]:
        """Iterators that terms of the stage depend on, in the stage's order."""
        mask = 0
        for term in terms:
            mask |= self._masks[term]
        return tuple(i for i in self.iters if mask & self._bit[i])

    def knows(self, term: Scalar) -> bool:
        """Whether a term belongs to the stage."""
        return term in self._masks

    def ordered(self, iters: Iterable[Iter]) -> tuple[Iter, ...]:
        """Distinct iterators in the stage's order."""
        chosen = dict.fromkeys(iters)
        return tuple(i for i in self.iters if i in chosen)

    @property
    def outermost(self) -> Context:
        """What holds wherever the stage computes at all."""
        return () if self.guard is None else ((self.guard, True),)

    @cached_property
    def contexts(self) -> dict[Scalar, tuple[Context, ...]]:
        """For each term, the guards along every path to it; ``()`` when there are too many to tell."""
        found: dict[Scalar, dict[Context, None]] = {t: {} for t in self.postorder}
        for root in self.roots:
            found[root][self.outermost] = None
        for term in reversed(self.postorder):
            for n, child in enumerate(children(term)):
                for context in found[term]:
                    below = (*context, (term.guard, n == 0)) if isinstance(term, Select) else context
                    if len(found[child]) <= _MANY:
                        found[child][below] = None
        return {t: () if len(c) > _MANY else ((),) if () in c else tuple(c) for t, c in found.items()}
