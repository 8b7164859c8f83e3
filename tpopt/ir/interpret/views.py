"""A read over a box as a strided view.

Each axis of the tensor becomes axes of a base array whose positions are affine in the iterators:

* an affine index that stays in bounds is a slice of the tensor itself;
* an index that varies along one direction ``u = sum of coefficient * iterator`` (a padded or guarded position, or
  ``i // 2``) is tabled once for the values of ``u``; guards that vary along it too become the fill of that table;
* anything else (lookups above all) is gathered over the iterators it depends on.

Then every iterator has one stride, and the result is a view: windows, broadcasts and transposes copy nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tpopt.ir.index import Index, Iter
from tpopt.ir.interpret.affine import Affine, Direction, Symbols, affine, along, line, parameter_range
from tpopt.ir.interpret.space import Space, clipped, points, sliced
from tpopt.ir.interpret.tables import Table, lay_out
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.program import Array


@dataclass(frozen=True)
class View:
    """A read at every point of a space, as far as guards could be folded into it.

    ``leftover`` are the conditions (each an index that must be at least 0) still to be applied. ``outside`` tells that
    some position was brought inside the tensor: wrong unless a guard forbids that point.
    """

    array: Array
    leftover: tuple[Index, ...] = ()
    outside: bool = False


@dataclass(eq=False)
class _Axis:
    """One axis: sliced by its affine ``form``, tabled along its ``direction``, or gathered over iterators.

    ``position`` is where a point reads along the axis of the base array that replaces it.
    """

    where: Index
    form: Affine | None
    direction: Direction | None
    halves: list[Index] = field(default_factory=list)
    position: Affine = Affine(0, ())  # noqa: RUF009  (frozen)


def read(
    space: Space,
    tensor: Array,
    indices: Sequence[Index],
    storage: np.dtype[Any],
    halves: Sequence[Index] = (),
    fill: Array | None = None,
) -> View:
    """``tensor[indices]`` where every half is at least 0, and ``fill`` (0-d) elsewhere; see :class:`View`.

    The tensor may be of a narrower type than ``storage``: only what is read is converted.
    """
    extents = [space.extent(i) for i in space.axes]
    if 0 in extents:
        return View(np.zeros(extents, storage))
    if 0 in tensor.shape:
        nothing = np.zeros((1,) * len(extents), storage) if fill is None else np.full((1,) * len(extents), fill)
        return View(nothing, tuple(halves), outside=True)
    axes = [_axis(i, space.symbols) for i in indices]
    leftover: list[Index] = []
    for half in halves:
        direction = line(half, space.symbols)
        owner = next((a for a in axes if direction and a.direction == direction), None)
        (leftover if owner is None else owner.halves).append(half)
    return _Reading(space, tensor, axes, storage, fill).run(leftover)


def _axis(where: Index, symbols: Symbols) -> _Axis:
    form = affine(where, symbols)
    return _Axis(where, form, line(where, symbols) if form is None else form.direction)


class _Reading:
    """One read in progress: ``base`` and, for each of its dimensions, the affine position once it is known."""

    def __init__(
        self, space: Space, tensor: Array, axes: Sequence[_Axis], storage: np.dtype[Any], fill: Array | None
    ) -> None:
        self.space, self.base, self.axes, self.storage, self.fill = space, tensor, list(axes), storage, fill
        self.outside = False

    def run(self, leftover: list[Index]) -> View:
        tabled, joint, gathered = self._classify()
        self._slice([a for a in self.axes if a.form is not None and a not in tabled and a not in gathered])
        for direction, group in joint.items():
            self._gather_along(direction, group)
        for together in self._linked(gathered):
            leftover = self._gather(together, leftover)
        self.base = self.base.astype(self.storage, copy=False)
        self._tabulate(tabled)
        return View(self._strided(), tuple(leftover), self.outside)

    def _classify(self) -> tuple[list[_Axis], dict[Direction, list[_Axis]], list[_Axis]]:
        """Axes to table, axes to gather jointly along a direction, axes to gather over iterators."""
        curved: dict[Direction, list[_Axis]] = {}
        tabled: list[_Axis] = []
        gathered: list[_Axis] = []
        for axis, extent in zip(self.axes, self.base.shape, strict=True):
            if axis.form is not None and not axis.halves and self._fits(axis.form, extent):
                continue
            if axis.direction is None or self._sparse(axis.direction):
                gathered.append(axis)
            elif axis.form is None:
                curved.setdefault(axis.direction, []).append(axis)
            else:
                tabled.append(axis)
        tabled += [group[0] for group in curved.values() if len(group) == 1]
        return tabled, {d: group for d, group in curved.items() if len(group) > 1}, gathered

    def _fits(self, form: Affine, extent: int) -> bool:
        low, high = form.span(self.space.box)
        return low >= 0 and high < extent

    def _sparse(self, direction: Direction) -> bool:
        """Whether a table over all parameters would be much longer than the points that use it."""
        low, high = parameter_range(direction, self.space.box)
        return high - low > 64 + 2 * points(self.space.box, [i for i, _ in direction])

    def _slice(self, plain: list[_Axis]) -> None:
        selectors = [slice(None)] * len(self.axes)
        for axis in plain:
            assert axis.form is not None
            low, high = axis.form.span(self.space.box)
            selectors[self.axes.index(axis)] = slice(low, high + 1)
            axis.position = Affine(axis.form.offset - low, axis.form.terms)
        self.base = sliced(self.base, selectors)

    def _parameter(self, direction: Direction) -> tuple[Array, Affine]:
        """Values of a direction's parameter over the box, and their positions in such a list."""
        low, high = parameter_range(direction, self.space.box)
        return np.arange(low, high, dtype=np.int64), Affine(-low, direction)

    def _valid(self, axes: Sequence[_Axis], u: Array) -> Array:
        valid = np.ones(u.shape, bool)
        for half in (h for a in axes for h in a.halves):
            valid &= along(half, self.space.symbols, u) >= 0
        return valid

    def _tabulate(self, tabled: list[_Axis]) -> None:
        tables: dict[int, Table] = {}
        for axis in tabled:
            u, axis.position = self._parameter(axis.direction or ())
            valid, n = self._valid([axis], u), self.axes.index(axis)
            (source,), wrong = clipped([along(axis.where, self.space.symbols, u)], [self.base.shape[n]])
            self.outside |= wrong is not None and bool((wrong & valid).any())
            tables[n] = Table(source, valid)
        self.base = lay_out(self.base, tables, self.fill)

    def _gather_along(self, direction: Direction, group: list[_Axis]) -> None:
        """Replaces several axes that vary along one direction by one axis for its parameter."""
        u, position = self._parameter(direction)
        sources = [along(a.where, self.space.symbols, u) for a in group]
        self._index(group, sources, self._valid(group, u), [position])

    def _linked(self, gathered: list[_Axis]) -> list[list[_Axis]]:
        """Axes in groups that share iterators: groups are gathered one after the other."""
        groups: list[tuple[set[Iter], list[_Axis]]] = []
        for axis in gathered:
            iters, members = set(iters_of((axis.where,))), [axis]
            for group in [g for g in groups if g[0] & iters]:
                groups.remove(group)
                iters, members = iters | group[0], group[1] + members
            groups.append((iters, members))
        return [members for _, members in groups]

    def _gather(self, group: list[_Axis], leftover: list[Index]) -> list[Index]:
        """Replaces axes by the iterators their indices depend on; applies the conditions on those alone.

        Returns the conditions that are left.
        """
        halves = leftover + [h for a in group for h in a.halves]
        over = [i for i in self.space.axes if i in iters_of(a.where for a in group)]
        own = [h for h in halves if all(i in over for i in iters_of((h,)))]
        sources = [self._over(self.space.values(a.where), over) for a in group]
        valid = self._over(self.space.nonnegative(own), over)
        for axis in group:
            axis.halves = []
        self._index(group, sources, valid, [Affine(-self.space.box[i][0], ((i, 1),)) for i in over])
        return [h for h in halves if h not in own]

    def _over(self, values: Array, over: Sequence[Iter]) -> Array:
        """The dimensions ``over`` of an array of the space, at full extent."""
        picked = values.reshape([values.shape[self.space.place(i)] for i in over])
        return np.broadcast_to(picked, [self.space.extent(i) for i in over])

    def _index(self, group: list[_Axis], sources: Sequence[Array], valid: Array, params: list[Affine]) -> None:
        """One indexing step: the parameters become the first dimensions."""
        numbers = [self.axes.index(a) for a in group]
        inside, wrong = clipped(sources, [self.base.shape[n] for n in numbers])
        self.outside |= wrong is not None and bool((wrong & valid).any())
        rest = [n for n in range(self.base.ndim) if n not in numbers]
        self.base = np.asarray(self.base.transpose(*numbers, *rest)[inside]).astype(self.storage, copy=False)
        if self.fill is not None and not valid.all():
            self.base = self.base.copy()  # indexing by a single position gives a view
            self.base[~valid] = self.fill
        self.axes = [_Axis(Index(()), None, None, position=p) for p in params] + [self.axes[n] for n in rest]

    def _strided(self) -> Array:
        strides: dict[Iter, int] = {}
        for axis, step in zip(self.axes, self.base.strides, strict=True):
            for i, coefficient in axis.position.terms:
                strides[i] = strides.get(i, 0) + coefficient * step
        corner = sliced(self.base, (slice(a.position.at_start(self.space.box), None) for a in self.axes))
        shape = [self.space.extent(i) if i in strides else 1 for i in self.space.axes]
        return as_strided(corner, shape, [strides.get(i, 0) for i in self.space.axes], writeable=False)
