"""Contraction of arrays over named axes, pairwise, through matrix products in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from opt_einsum import contract_path, get_symbol

from tpopt.ir.dtypes import DType
from tpopt.ir.index import Iter
from tpopt.ir.interpret.arithmetic import Arithmetic
from tpopt.ir.interpret.operands import Operand, Roles, is_matrix, matrix, overlapping, spread
from tpopt.ir.interpret.space import Box, cut, pieces, points
from tpopt.ir.program import Array

_ELEMENTS = 1 << 24  # of the operands of one matrix product: 128 MB in float64
_WINDOW = 64  # summed points up to which overlapping windows are visited rather than unfolded


@dataclass(frozen=True)
class Contraction:
    """Products over ``box``, summed over every axis that is not ``kept``."""

    kept: tuple[Iter, ...]
    box: Box
    arithmetic: Arithmetic
    dtype: DType

    def run(self, operands: Sequence[Operand]) -> Operand:
        """The contracted operand; its axes are those of ``kept`` that some operand has, in that order."""
        pool = list(operands)
        for step in self._path(pool):
            chosen = [pool[n] for n in step]
            pool = [o for n, o in enumerate(pool) if n not in step]
            result = chosen[0]
            for n, other in enumerate(chosen[1:], start=2):
                result = self._pair(result, other, self._needed([*pool, *chosen[n:]]))
            pool.append(result)
        last = self._summed(pool[0], self.kept)
        order = [last.axes.index(i) for i in self.kept if i in last.axes]
        return Operand(tuple(last.axes[n] for n in order), last.array.transpose(order))

    def _needed(self, later: Sequence[Operand]) -> dict[Iter, None]:
        return dict.fromkeys((*self.kept, *(i for o in later for i in o.axes)))

    def _path(self, pool: Sequence[Operand]) -> list[tuple[int, ...]]:
        if len(pool) <= 2:
            return [(0, 1)] if len(pool) == 2 else []
        names: dict[Iter, str] = {}
        for axis in (i for o in pool for i in o.axes):
            names.setdefault(axis, get_symbol(len(names)))
        inputs = ",".join("".join(names[i] for i in o.axes) for o in pool)
        output = "".join(names[i] for i in self.kept if i in names)
        shapes = [tuple(max(1, points(self.box, (i,))) for i in o.axes) for o in pool]
        how = "auto" if len(pool) <= 6 else "greedy"  # both deterministic
        path, _ = contract_path(f"{inputs}->{output}", *shapes, shapes=True, optimize=how)
        return [tuple(sorted(step)) for step in path]

    def _summed(self, operand: Operand, needed: Collection[Iter]) -> Operand:
        """Sums out the axes that nobody needs."""
        gone = tuple(n for n, i in enumerate(operand.axes) if i not in needed)
        if not gone:
            return operand
        (total,) = self.arithmetic.fold("sum", (operand.array,), (self.dtype,), gone)
        return Operand(tuple(i for i in operand.axes if i in needed), total.squeeze(gone))

    def _pair(self, a: Operand, b: Operand, needed: Collection[Iter]) -> Operand:
        a, b = self._summed(a, {*needed, *b.axes}), self._summed(b, {*needed, *a.axes})
        roles = Roles(
            batch=tuple(i for i in a.axes if i in b.axes and i in needed),
            rows=tuple(i for i in a.axes if i not in b.axes),
            inner=tuple(i for i in a.axes if i in b.axes and i not in needed),
            columns=tuple(i for i in b.axes if i not in a.axes),
        )
        if not roles.inner:
            return Operand(roles.result, self._multiply(a, b, roles.result))
        if self._windowed(a, b, roles):
            return Operand(roles.result, self._over_window(a, b, roles))
        return Operand(roles.result, self._matmul(a, b, roles))

    def _multiply(self, a: Operand, b: Operand, axes: Sequence[Iter]) -> Array:
        return self.arithmetic.apply("mul", (spread(a, axes), spread(b, axes)), self.dtype, self.dtype)

    def _windowed(self, a: Operand, b: Operand, roles: Roles) -> bool:
        """Whether one operand is a view of overlapping windows that a product with few summed points would unfold."""
        rows, columns = points(self.box, roles.rows), points(self.box, roles.columns)
        if min(rows, columns) > 1 or points(self.box, roles.inner) > _WINDOW:
            return False
        operand, other = (a, roles.rows) if rows > columns else (b, roles.columns)
        return overlapping(operand.array) and not is_matrix(operand, other, roles.inner)

    def _over_window(self, a: Operand, b: Operand, roles: Roles) -> Array:
        """Sums elementwise products, one point of the window at a time."""
        total: Array | None = None
        for part in pieces(self.box, roles.inner, 1):
            left = Operand(a.axes, cut(a.array, a.axes, self.box, part))
            right = Operand(b.axes, cut(b.array, b.axes, self.box, part))
            product = self._multiply(left, right, (*roles.result, *roles.inner))
            product = product.reshape(product.shape[: len(roles.result)])
            total = product if total is None else self.arithmetic.apply("add", (total, product), self.dtype, self.dtype)
        assert total is not None
        return total

    def _matmul(self, a: Operand, b: Operand, roles: Roles) -> Array:
        """Matrix products over pieces of the batch, the rows (or the columns) and, at last, the summed axes."""
        longer = max(roles.rows, roles.columns, key=lambda axes: points(self.box, axes))
        order = (*roles.batch, *longer, *roles.inner)
        volume = sum(points(self.box, (*roles.batch, *side, *roles.inner)) for side in (roles.rows, roles.columns))
        limit = max(1, points(self.box, order) * _ELEMENTS // max(1, volume))
        parts = list(pieces(self.box, order, limit))
        if len(parts) == 1:
            return self._block(a, b, roles, self.box)
        out = np.zeros([points(self.box, (i,)) for i in roles.result], self.arithmetic.storage(self.dtype))
        for part in parts:
            block = self._block(a, b, roles, part)
            target = cut(out, roles.result, self.box, part)
            first = all(part[i][0] == self.box[i][0] for i in roles.inner)
            target[...] = block if first else self.arithmetic.apply("add", (target, block), self.dtype, self.dtype)
        return out

    def _block(self, a: Operand, b: Operand, roles: Roles, part: Box) -> Array:
        left = matrix(Operand(a.axes, cut(a.array, a.axes, self.box, part)), roles.batch, roles.rows, roles.inner)
        right = matrix(Operand(b.axes, cut(b.array, b.axes, self.box, part)), roles.batch, roles.inner, roles.columns)
        product = self.arithmetic.matmul(left, right, self.dtype)
        return product.reshape([points(part, (i,)) for i in roles.result])
