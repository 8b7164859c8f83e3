"""The points that a kernel computes side by side: lanes of a vector, and steps whose values stay in registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from tpopt.backend.generated.plan import Sweep
from tpopt.backend.tvm.code import Expr, Number
from tpopt.backend.tvm.places import Line, Place
from tpopt.ir import Iter

Step: TypeAlias = "tuple[tuple[Iter, int], ...]"
"""Which step of a tile: a number for each iterator that takes more than one."""


@dataclass(frozen=True)
class Tile:
    """``lines`` are the iterators' values at the first step; ``numbers`` count tiles, for what is packed by tile.

    ``lanes`` is the width of vectors, ``vector`` the iterator that lies in them, ``mask`` says which lanes are points.
    """

    lines: Mapping[Iter, Line] = field(default_factory=dict)
    sweeps: Mapping[Iter, Sweep] = field(default_factory=dict)
    numbers: Mapping[Iter, Number] = field(default_factory=dict)
    vector: Iter | None = None
    mask: Expr | None = None

    @property
    def lanes(self) -> int:
        """Lanes of every vector made in this tile."""
        return self.sweeps[self.vector].lanes if self.vector is not None else 1

    def steps(self, iters: Iterable[Iter]) -> list[Step]:
        """Every step that a term over these iterators has a value of its own for."""
        wanted = set(iters)
        moving = [(i, s.count) for i, s in self.sweeps.items() if s.count > 1 and i in wanted]
        return [tuple(zip((i for i, _ in moving), n, strict=True)) for n in product(*(range(c) for _, c in moving))]

    def step(self, at: Step, iters: Iterable[Iter]) -> Step:
        """The part of a step that a term over these iterators depends on."""
        wanted = set(iters)
        return tuple((i, n) for i, n in at if i in wanted)

    def place(self, at: Step) -> Place:
        """The place of one step."""
        if not at:
            return Place(self.lines, self.lanes)
        moved = dict(self.lines)
        for iterator, number in at:
            line, lanes = moved[iterator], self.sweeps[iterator].lanes
            moved[iterator] = Line(line.base + number * lanes, line.step, _common(line.multiple, number * lanes))
        return Place(moved, self.lanes)

    def inside(self, lines: Mapping[Iter, Line], numbers: Mapping[Iter, Number] | None = None) -> Tile:
        """The tile with further iterators in scope."""
        more = {} if numbers is None else numbers
        return Tile({**self.lines, **lines}, self.sweeps, {**self.numbers, **more}, self.vector, self.mask)


def _common(multiple: int, offset: int) -> int:
    from math import gcd

    return gcd(multiple, offset)
