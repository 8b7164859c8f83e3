"""How reads move through memory as loops advance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from tpopt.backend.generated.plan import Work, dense_strides
from tpopt.backend.generated.sizes import shape
from tpopt.ir import FloorDiv, Index, Iter, Lookup, Mod, Read, Reduce, Scalar, Tensor, index
from tpopt.ir.dtypes import DType
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.walk import own_indices, postorder

ANYWHERE: Final = 1 << 30
"""Lanes of which no aligned block is known: a step holds for neighbours wherever they are."""


class Access:
    """The reads and loops of one work. ``strides`` are those of tensors that are not dense, in elements."""

    def __init__(self, work: Work, strides: Mapping[str, tuple[int, ...]]) -> None:
        self.work = work
        self._strides = strides
        self.terms: Sequence[Scalar] = postorder(*work.bodies)
        self.reads = tuple(t for t in self.terms if isinstance(t, Read))
        self.reduces = tuple(t for t in self.terms if isinstance(t, Reduce))
        inside: dict[Scalar, None] = {}
        for reduce in self.reduces:
            inside.update(dict.fromkeys(postorder(*reduce.bodies)))
        self._summed = inside

    def is_summed(self, term: Scalar) -> bool:
        """Whether a term lies inside a reduction."""
        return term in self._summed

    def strides(self, tensor: Tensor) -> tuple[int, ...]:
        """Strides of a tensor in elements."""
        return self._strides.get(tensor.name, dense_strides(shape(tensor)))

    def step(self, read: Read, iterator: Iter, lanes: int = 1) -> int | None:
        """How far apart neighbours along an iterator lie, in elements; ``None`` where they are not evenly spaced.

        With ``lanes``, only neighbours within an aligned block of that many count.
        """
        return _moved(read.indices, self.strides(read.tensor), iterator, lanes)

    def out_step(self, iterator: Iter) -> int | None:
        """How far apart neighbours of the result lie."""
        return _moved(self.work.cases[0].where, self.strides(self.work.outs[0]), iterator, 1)


def side_by_side(read: Read, strides: tuple[int, ...], vector: Iter, loops: Iterable[Iter]) -> Iter | None:
    """The loop along which a read's elements lie side by side, where along ``vector`` they are evenly spaced but apart.

    A square of such elements can be read row by row and turned in registers. ``None`` where there is no such loop.
    """
    if read.dtype.is_complex or read.dtype is DType.BOOL:
        return None
    if _moved(read.indices, strides, vector, ANYWHERE) in (None, -1, 0, 1):
        return None
    return next((i for i in loops if i is not vector and _moved(read.indices, strides, i, ANYWHERE) == 1), None)


def _moved(indices: tuple[Index, ...], strides: tuple[int, ...], iterator: Iter, lanes: int) -> int | None:
    total = 0
    for where, stride in zip(indices, strides, strict=True):
        moved = lane_step(where, iterator, lanes)
        if moved is None:
            return None
        total += moved * stride
    return total


def lane_step(where: Index, iterator: Iter, lanes: int) -> int | None:
    """The step of an index along an iterator within an aligned block of ``lanes``; ``None`` where it varies."""
    total = 0
    for coefficient, atoms in where.terms:
        moving = [a for a in atoms if _mentions(a, iterator)]
        if not moving:
            continue
        if len(atoms) > 1:
            return None
        (atom,) = atoms
        if isinstance(atom, Iter):
            total += coefficient
            continue
        if isinstance(atom, Lookup):
            return None
        assert isinstance(atom, (FloorDiv, Mod))
        inner = lane_step(atom.numerator, iterator, lanes)
        divisor = index(atom.denominator).constant
        if inner is None or divisor is None or inner < 0:
            return None
        if inner == 0:
            continue
        if divisor % (inner * lanes) or not _aligned(atom.numerator, iterator, inner * lanes):
            return None
        total += coefficient * inner if isinstance(atom, Mod) else 0
    return total


def _aligned(numerator: Index, iterator: Iter, block: int) -> bool:
    """Whether everything but the iterator adds multiples of a block."""
    return all(c % block == 0 for c, atoms in numerator.terms if not any(a is iterator for a in atoms))


def _mentions(atom: object, iterator: Iter) -> bool:
    if atom is iterator:
        return True
    if isinstance(atom, (FloorDiv, Mod)):
        return iterator in iters_of((atom.numerator,))
    return isinstance(atom, Lookup) and iterator in iters_of(atom.indices)


@lru_cache(maxsize=1 << 12)
def depends_on(read: Read) -> dict[Iter, None]:
    """Iterators that decide which element is read."""
    return iters_of(own_indices(read))
