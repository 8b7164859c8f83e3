"""Reads at affine indices as strided views: what a loop nest reads of a tensor, without a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tpopt.ir import Index, Iter, Symbol
from tpopt.ir.index import evaluate


def affine(where: Index) -> bool:
    """A sum of iterators with coefficients that hold no iterator and are not negative (torch has no such strides)."""
    for coefficient, atoms in where.terms:
        iterators = [a for a in atoms if isinstance(a, Iter)]
        if len(iterators) > 1 or any(not isinstance(a, (Iter, Symbol)) for a in atoms):
            return False
        if iterators and coefficient < 0:
            return False
    return True


@dataclass(frozen=True)
class StridedView:
    """``view[loops] = source[indices]``, the indices affine in the loops.

    ``steps[l][a]`` is how far loop ``l`` moves along axis ``a`` of the source, ``starts[a]`` where it begins.
    """

    shape: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @classmethod
    def of(
        cls,
        indices: Sequence[Index],
        loops: Sequence[Iter],
        sizes: Mapping[str, int],
        lows: Mapping[Iter, int] | None = None,
        extents: Mapping[Iter, int] | None = None,
    ) -> StridedView:
        """The view of some loops for given symbol values; ``lows`` and ``extents`` narrow loops to a part of them."""
        first = {**sizes, **{loop.name: (lows or {}).get(loop, 0) for loop in loops}}
        full = {loop: evaluate(loop.extent, sizes) if isinstance(loop.extent, Index) else loop.extent for loop in loops}
        return cls(
            tuple((extents or {}).get(loop, full[loop]) for loop in loops),
            tuple(tuple(evaluate(i.coefficient(loop), sizes) for i in indices) for loop in loops),
            tuple(evaluate(i, first) for i in indices),
        )

    def __call__(self, source: torch.Tensor) -> torch.Tensor:
        """The view of a tensor, whatever its strides."""
        own = source.stride()
        strides = [sum(c * s for c, s in zip(row, own, strict=True)) for row in self.steps]
        offset = source.storage_offset() + sum(c * s for c, s in zip(self.starts, own, strict=True))
        return source.as_strided(self.shape, strides, offset)
