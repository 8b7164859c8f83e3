"""Reads and lookups out of bounds: harmless where a guard forbids the point, an error elsewhere.

The engine brings every position inside the tensor and asks here whether that was allowed. Asked only when a position
was outside, so that programs whose indices are in bounds pay nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tpopt.errors import InvalidProgram, UnsupportedInput
from tpopt.ir.index import Index, Lookup, walk_atoms
from tpopt.ir.interpret.affine import Symbols
from tpopt.ir.interpret.arithmetic import Arithmetic
from tpopt.ir.interpret.space import Box, Space, pieces
from tpopt.ir.interpret.terms import Context, StageTerms, iters_of
from tpopt.ir.program import Array
from tpopt.ir.terms import Read
from tpopt.ir.walk import guard_indices, own_indices

_POINTS = 1 << 20


@dataclass(frozen=True)
class Checks:
    """The checks of one stage over the full ranges of its iterators."""

    terms: StageTerms
    box: Box
    tensors: Mapping[str, Array]
    symbols: Symbols
    arithmetic: Arithmetic

    def read(self, term: Read) -> None:
        """Raises :class:`InvalidProgram` if the read leaves its tensor at a point where it is evaluated."""
        what = f"{term.tensor.name}[{', '.join(i.text for i in term.indices)}]"
        self._inside(what, term.tensor.name, term.indices, self.terms.contexts[term])

    def lookup(self, atom: Lookup) -> None:
        """Raises where a lookup that is evaluated leaves its tensor or finds a value outside its bounds."""
        contexts = self._owners(atom)
        self._inside(atom.text, atom.tensor.name, atom.indices, contexts)
        alone = Index(((1, (atom,)),))
        for space, active in self._active((alone, *atom.indices), contexts):
            found, low, high = space.values(alone), space.values(atom.low), space.values(atom.high)
            wrong = active & ((found < low) | (found >= high))
            if wrong.any():
                where = [_first(space, wrong, space.values(i))[1] for i in atom.indices]
                value, first, end = (_first(space, wrong, v)[1] for v in (found, low, high))
                raise UnsupportedInput(
                    f"{atom.tensor.name}{where} is {value}; stage {self.terms.name} needs values in [{first}, {end})"
                )

    def _inside(self, what: str, name: str, indices: Sequence[Index], contexts: Iterable[Context]) -> None:
        shape = self.tensors[name].shape
        for axis, where in enumerate(indices):
            for space, active in self._active((where,), contexts):
                position = space.values(where)
                wrong = active & ((position < 0) | (position >= shape[axis]))
                if wrong.any():
                    point, value = _first(space, wrong, position)
                    raise InvalidProgram(
                        f"stage {self.terms.name}: {what} reads position {value} of axis {axis}, whose extent is "
                        f"{shape[axis]}, at {point}; guard it"
                    )

    def _owners(self, atom: Lookup) -> Sequence[Context]:
        """Contexts of every term that holds the lookup, and of the stage's own positions."""
        owners = [t for t in self.terms.postorder if any(atom in walk_atoms(i) for i in own_indices(t))]
        outer = [self.terms.outermost] if any(atom in walk_atoms(i) for i in self.terms.positions) else []
        return [*outer, *(c for t in owners for c in self.terms.contexts[t])]

    def _active(self, indices: Sequence[Index], contexts: Iterable[Context]) -> Iterable[tuple[Space, Array]]:
        """Boxes that cover every point the indices depend on, with where some context holds."""
        for context in contexts:
            bounds = [i for guard, _ in context for i in guard_indices(guard)]
            axes = self.terms.ordered(iters_of((*indices, *bounds)))
            for box in pieces(self.box, axes, _POINTS):
                space = Space(axes, box, self.tensors, self.symbols, self.arithmetic, lambda *_: None)
                active: Array = np.ones((1,) * len(axes), bool)
                for guard, wanted in context:
                    active = active & (space.holds(guard.bounds) == wanted)
                yield space, active


def _first(space: Space, wrong: Array, values: Array) -> tuple[str, int]:
    """The first point where ``wrong`` holds, as text, and the value there."""
    where = np.argwhere(wrong)[0]
    point = [f"{axis}={space.box[axis][0] + int(n)}" for axis, n in zip(space.axes, where, strict=True)]
    full = np.broadcast_to(values, np.broadcast_shapes(values.shape, wrong.shape))
    return ", ".join(point) or "its only point", int(full[tuple(where)])
