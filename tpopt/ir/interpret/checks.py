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
        contexts = self.terms.contexts[term]
        shape = self.tensors[term.tensor.name].shape
        for axis, where in enumerate(term.indices):
            for space, active in self._active((where,), contexts):
                position = space.values(where)
                wrong = active & ((position < 0) | (position >= shape[axis]))
                if wrong.any():
                    point, value = _first(space, wrong, position)
                    read = f"{term.tensor.name}[{', '.join(i.text for i in term.indices)}]"
                    raise InvalidProgram(
                        f"stage {self.terms.name}: {read} reads position {value} of axis {axis}, which has {shape[axis]}, "
                        f"at {point}; guard the read"
                    )

    def lookup(self, atom: Lookup) -> None:
        """Raises where a lookup that is evaluated leaves its tensor or finds a value outside its bounds."""
        shape = self.tensors[atom.tensor.name].shape
        for axis, where in enumerate(atom.indices):
            for space, active in self._active((where,), self._owners(atom)):
                position = space.values(where)
                wrong = active & ((position < 0) | (position >= shape[axis]))
                if wrong.any():
                    point, value = _first(space, wrong, position)
                    raise InvalidProgram(
                        f"stage {self.terms.name}: lookup {atom.text} reads position {value} of axis {axis} at {point}"
                    )
        alone = Index(((1, (atom,)),))
        for space, active in self._active((alone, *atom.indices), self._owners(atom)):
            found, low, high = space.values(alone), space.values(atom.low), space.values(atom.high)
            wrong = active & ((found < low) | (found >= high))
            if wrong.any():
                where_at = [int(_first(space, wrong, space.values(i))[1]) for i in atom.indices]
                _, value = _first(space, wrong, found)
                raise UnsupportedInput(
                    f"{atom.tensor.name}{where_at} is {value}; stage {self.terms.name} needs values in "
                    f"[{_first(space, wrong, low)[1]}, {_first(space, wrong, high)[1]})"
                )

    def _owners(self, atom: Lookup) -> Sequence[Context]:
        """Contexts of every term that holds the lookup; the unguarded one for the stage's own indices."""
        if any(atom in walk_atoms(i) for i in self.terms.extra):
            return ((),)
        owners = [t for t in self.terms.postorder if any(atom in walk_atoms(i) for i in own_indices(t))]
        return [c for t in owners for c in self.terms.contexts[t]]

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
