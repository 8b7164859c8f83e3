"""What a model can see of a kernel before it is built: numbers for many decisions of one kernel at once.

In the manner of Ansor's features of a store (Zheng et al., OSDI 2020, appendix B), taken from the plan instead of from
lowered code: loop extents, vectors, registers, strides, and the bytes that each level of loops touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from tpopt.backend.generated.access import Access, depends_on
from tpopt.backend.generated.decisions import Decision
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import Nest
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.generated.sizes import extent, shape
from tpopt.ir import Apply, FloorDiv, Index, Iter, Lookup, Mod, Read
from tpopt.ir.index import index

Matrix = npt.NDArray[np.float64]

LEVELS: Final = 3
"""Innermost loops whose footprint counts of its own."""
CACHES: Final = (32 << 10, 1 << 20, 16 << 20)
"""Bytes of the caches whose traffic is estimated: orders of magnitude of L1, L2 and a share of L3."""
LINE: Final = 16
"""float32 numbers of a cache line."""
_TRANSCENDENTAL: Final = frozenset(
    "exp log sin cos tan tanh sinh cosh erf erfc pow sigmoid asin acos atan log1p expm1 exp2 log2".split()
)
NAMES: Final = (
    "points", "terms", "reads", "easy operations", "functions", "bytes read", "bytes written", "packs",
    "lanes", "no vector", "vector across", "vector extent", "vector waste", "write steps 1", "reads steps 1",
    "reads steps 0", "reads gathered", "gathered in the sum", "accumulators", "registers over", "loads",
    "loads a product", "waste", "chains", "tile products", "innermost tiles", "second tiles", "innermost reads step 1",
    *(f"footprint {n}" for n in range(LEVELS + 1)),
    *(f"traffic {c >> 10} KiB" for c in CACHES),
    "chunks", "chunks a thread", "imbalance", "nests", "threads", "vector bytes", "vector registers",
)  # fmt: skip
"""The features of one decision, in order; all but ``no``/``across`` and shares are log2(1 + value)."""


def features(request: KernelRequest, decisions: Sequence[Sequence[Decision]]) -> Matrix:
    """A row for each decision: :data:`NAMES`, then the same less those of the kernel's own schedule.

    Nests count by the share of the work that they do.
    """
    own = tuple(map(Decision.of, request.plan.nests))
    strides = {**request.plan.strides, **request.plan.steps}
    packed = frozenset(p.read for p in request.plan.packs)
    seen = [_NestFeatures(n, strides, packed, request.processor) for n in request.plan.nests]
    weights = np.array([s.weight for s in seen])
    weights /= weights.sum()
    rows = np.zeros((len(decisions) + 1, len(NAMES)))
    for place, (nest, weight) in enumerate(zip(seen, weights, strict=True)):
        rows += weight * nest.of([own[place], *(d[place] for d in decisions)])
    rows[:, NAMES.index("nests")] = len(seen)
    return np.hstack([rows[1:], rows[1:] - rows[0]])


@dataclass(frozen=True)
class _Operand:
    """A tensor that is read or written: how far each index moves with each iterator."""

    coefficients: Matrix  # dims x iterators
    limits: Matrix
    itemsize: int
    depends: npt.NDArray[np.bool_]
    summed: bool
    packed: bool
    steps: tuple[int | None, ...]


class _NestFeatures:
    """All that does not depend on the decision, once; then decisions in a batch."""

    def __init__(
        self, nest: Nest, strides: dict[str, tuple[int, ...]], packed: frozenset[Read], processor: Processor
    ) -> None:
        access = Access(nest.work, strides)
        self._loops = nest.work.loops[nest.depth :]
        self._shared = nest.work.loops[: nest.depth]
        self._reduced = tuple(dict.fromkeys(i for r in access.reduces for i in r.iters))
        self._iters = (*self._shared, *self._loops, *self._reduced)
        self._extents = np.array([extent(i) for i in self._iters], dtype=float)
        self._processor = processor
        width = processor.lanes(4)
        self._operands = [self._operand(access, r, packed, width) for r in access.reads]
        self._written = [self._output(access, n) for n in range(len(nest.work.outs))]
        self._terms = prod(map(extent, self._reduced))
        self._points = prod(extent(i) for i in (*self._shared, *self._loops))
        applied = [t for t in access.terms if isinstance(t, Apply)]
        self._functions = sum(t.function in _TRANSCENDENTAL for t in applied)
        self._easy = len(applied) - self._functions
        self._reduces = bool(access.reduces)
        self.weight = float(self._points * self._terms * (1 + self._easy + 8 * self._functions))

    def of(self, decisions: Sequence[Decision]) -> Matrix:
        """A row of :data:`NAMES` for each decision."""
        count, first = len(decisions), len(self._shared)
        loops = len(self._loops)
        lanes = np.array([d.lanes for d in decisions], dtype=float)
        vector = np.array([d.vector for d in decisions])
        across = np.array([d.across for d in decisions], dtype=float)
        counts = np.array([d.counts for d in decisions], dtype=float).reshape(count, loops)
        order = np.array([d.order for d in decisions], dtype=int).reshape(count, loops)
        parallel = np.array([d.parallel for d in decisions])
        spans = counts.copy()
        rows = np.arange(count)
        has = vector >= 0
        spans[rows[has], vector[has]] *= lanes[has]
        own = self._extents[first : first + loops]
        tiles = np.ceil(own / spans)
        columns: list[Matrix] = [np.full(count, v) for v in self._fixed()]
        columns += self._vectors(vector, lanes, across, own)
        columns += self._registers(counts, lanes, across, tiles * spans / own)
        columns += self._inner(order, tiles)
        columns += self._memory(order, tiles, np.minimum(spans, own))
        chunks = np.ones(count)
        for level in range(loops):
            at = tiles[rows, order[:, level]]
            chunks = np.where(parallel > level, chunks * at, chunks)
        threads = float(self._processor.threads)
        chunks = np.where(np.array([d.divided for d in decisions]) >= 0, threads, chunks)
        columns += [_log(chunks), _log(chunks / threads), np.ceil(chunks / threads) * threads / chunks]
        machine = (1.0, threads, float(self._processor.vector_bytes), float(self._processor.registers))
        columns += [np.full(count, np.log2(1 + v)) for v in machine]
        return np.stack(columns, axis=1)

    def _fixed(self) -> list[float]:
        read = sum(float(np.prod(o.limits)) * o.itemsize for o in self._operands)
        written = sum(float(np.prod(o.limits)) * o.itemsize for o in self._written)
        packs = sum(o.packed for o in self._operands)
        figures = (self._points, self._terms, len(self._operands), self._easy, self._functions, read, written, packs)
        return [float(np.log2(1.0 + v)) for v in figures]

    def _vectors(self, vector: npt.NDArray[np.int64], lanes: Matrix, across: Matrix, own: Matrix) -> list[Matrix]:
        """How reads and writes lie along the vector, counted by a table over the loops."""
        table = np.zeros((len(self._loops) + 1, 5))  # the last row: no vector along a loop
        for place in range(len(self._loops)):
            steps = [o.steps[place] for o in self._operands if not o.packed]
            summed = [o.steps[place] for o in self._operands if o.summed and not o.packed]
            gathered = sum(s not in (0, 1, -1) for s in summed)
            wrote = sum(o.steps[place] == 1 for o in self._written)
            other = sum(s not in (0, 1, -1) for s in steps)
            table[place] = (wrote, sum(s == 1 for s in steps), sum(s == 0 for s in steps), other, gathered)
        along = np.append(own, 1.0)[vector]
        waste = np.where(vector >= 0, np.ceil(along / lanes) * lanes / along, 1.0)
        found = [_log(lanes), (vector < 0) * 1.0, (across > 0) * 1.0, _log(along), waste]
        return found + [table[vector, k] for k in range(5)]

    def _registers(self, counts: Matrix, lanes: Matrix, across: Matrix, wastes: Matrix) -> list[Matrix]:
        accumulators = counts.prod(axis=1) * np.maximum(across, 1)
        first, loops = len(self._shared), len(self._loops)
        loads = np.zeros(len(counts))
        for operand in self._operands:
            if operand.summed or not self._reduces:
                loads += np.where(operand.depends[first : first + loops], counts, 1.0).prod(axis=1)
        over = np.maximum(0.0, accumulators + loads - self._processor.registers)
        return [
            _log(accumulators), _log(over), _log(loads), loads / accumulators, wastes.prod(axis=1),
            8.0 / np.maximum(accumulators, 1.0), _log(accumulators * lanes * self._terms),
        ]  # fmt: skip

    def _inner(self, order: npt.NDArray[np.int64], tiles: Matrix) -> list[Matrix]:
        count, loops = order.shape
        if loops == 0:
            return [np.zeros(count)] * 3
        rows = np.arange(count)
        second = tiles[rows, order[:, -2]] if loops > 1 else np.ones(count)
        ones = np.array([sum(o.steps[p] == 1 for o in self._operands) for p in range(loops)], dtype=float)
        return [_log(tiles[rows, order[:, -1]]), _log(second), ones[order[:, -1]]]

    def _memory(self, order: npt.NDArray[np.int64], tiles: Matrix, spans: Matrix) -> list[Matrix]:
        """Bytes that each level of loops touches, and what so must come through each cache."""
        count, loops = order.shape
        first = len(self._shared)
        sizes = np.tile(self._extents, (count, 1))
        sizes[:, :first] = 1.0
        sizes[:, first : first + loops] = spans
        rows = np.arange(count)
        levels = [self._touched(sizes)]
        trips = [tiles.prod(axis=1)]
        for level in range(loops):
            at = order[:, loops - 1 - level]
            sizes[rows, first + at] = self._extents[first + at]
            levels.append(self._touched(sizes))
            trips.append(trips[-1] / tiles[rows, at])
        outer = prod(map(extent, self._shared))
        footprints = [_log(levels[min(n, loops)]) for n in range(LEVELS + 1)]
        return footprints + [self._traffic(levels, trips, outer, cache) for cache in CACHES]

    @staticmethod
    def _traffic(levels: Sequence[Matrix], trips: Sequence[Matrix], outer: int, cache: int) -> Matrix:
        """Bytes loaded by the outermost level that fits into a cache, as often as it runs."""
        found = levels[0] * trips[0]
        for touched, times in zip(levels, trips, strict=True):
            found = np.where(touched <= cache, touched * times, found)
        return _log(found * outer)

    def _touched(self, sizes: Matrix) -> Matrix:
        """Bytes of the points that iterators of these sizes reach, in whole cache lines."""
        total = np.zeros(len(sizes))
        for operand in (*self._operands, *self._written):
            reach = np.minimum(1.0 + (sizes - 1.0) @ operand.coefficients.T, operand.limits)
            if not operand.packed and reach.shape[1]:
                most = np.ceil(operand.limits[-1] / LINE) * LINE
                reach[:, -1] = np.minimum(np.ceil(reach[:, -1] / LINE) * LINE, most)
            total += reach.prod(axis=1) * operand.itemsize
        return total

    def _operand(self, access: Access, read: Read, packed: frozenset[Read], width: int) -> _Operand:
        steps = tuple(access.step(read, i, width) for i in self._loops)
        depends = depends_on(read)
        return _Operand(
            self._coefficients(read.indices),
            np.array(shape(read.tensor), dtype=float),
            read.tensor.dtype.itemsize,
            np.array([i in depends for i in self._iters], dtype=bool),
            access.is_summed(read),
            read in packed,
            steps,
        )

    def _output(self, access: Access, number: int) -> _Operand:
        tensor = access.work.outs[number]
        steps = tuple(access.out_step(i) for i in self._loops)
        every = np.ones(len(self._iters), dtype=bool)
        limits = np.array(shape(tensor), dtype=float)
        where = access.work.cases[0].where
        return _Operand(self._coefficients(where), limits, tensor.dtype.itemsize, every, False, False, steps)

    def _coefficients(self, indices: Sequence[Index]) -> Matrix:
        found = np.zeros((len(indices), len(self._iters)))
        for row, where in enumerate(indices):
            for iterator, moved in _moves(where):
                if iterator in self._iters:
                    found[row, self._iters.index(iterator)] += abs(moved)
        return found


def _moves(where: Index) -> list[tuple[Iter, float]]:
    """How far an index moves with each iterator, on average."""
    found: list[tuple[Iter, float]] = []
    pending = [(where, 1.0)]
    while pending:
        one, factor = pending.pop()
        for coefficient, atoms in one.terms:
            for atom in atoms:
                if isinstance(atom, Iter):
                    found.append((atom, coefficient * factor))
                elif isinstance(atom, (FloorDiv, Mod)):
                    divisor = index(atom.denominator).constant or 1
                    share = 1.0 / divisor if isinstance(atom, FloorDiv) else 1.0
                    pending.append((atom.numerator, coefficient * factor * share))
                elif isinstance(atom, Lookup):
                    pending.extend((i, coefficient * factor) for i in atom.indices)
    return found


def _log(values: Matrix) -> Matrix:
    return np.log2(1.0 + values)
