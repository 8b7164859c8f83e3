"""The number system of the exact interpreter: residues for floats, pairs of them for complex numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tpopt.ir.dtypes import DType
from tpopt.ir.exact import reductions
from tpopt.ir.exact.complexes import PAIR, Complexes, pair
from tpopt.ir.exact.field import Field
from tpopt.ir.exact.functions import Functions
from tpopt.ir.exact.numbers import Numbers, marked
from tpopt.ir.interpret.arithmetic import Arrays
from tpopt.ir.interpret.reals import Reals, plain_storage, stable_order
from tpopt.ir.program import Array
from tpopt.ir.terms import Number


@dataclass(frozen=True)
class Residues:
    """Floats are ``int64`` extended residues, complex numbers pairs of them; integers and bools are as in the reals.

    Lookups of a value outside its bounds are folded into them: after a random function, an index is random too.
    """

    field: Field
    seed: int

    @cached_property
    def numbers(self) -> Numbers:
        return Numbers(self.field)

    @cached_property
    def functions(self) -> Functions:
        return Functions(self.field, self.seed)

    @cached_property
    def complexes(self) -> Complexes:
        return Complexes(self.functions)

    @cached_property
    def plain(self) -> Reals:
        return Reals()

    def storage(self, dtype: DType) -> np.dtype[Any]:
        if dtype.is_complex:
            return PAIR
        return np.dtype(np.int64) if dtype.is_float else plain_storage(dtype)

    def constant(self, value: Number, dtype: DType) -> Array:
        if dtype.is_complex:
            number = complex(value)
            return pair(self._literal(number.real), self._literal(number.imag))
        return self._literal(float(value)) if dtype.is_float else self.plain.constant(value, dtype)  # type: ignore[arg-type]

    def _literal(self, value: float) -> Array:
        return np.asarray(self.numbers.encode(value), np.int64)

    def apply(self, function: str, args: Sequence[Array], dtype: DType, result: DType) -> Array:
        with np.errstate(all="ignore"):
            if function == "where":
                return np.where(args[0], args[1], args[2])
            if dtype.is_complex:
                return self.complexes.apply(function, args)
            if function == "complex":
                return pair(*args)
            return (
                self.functions.apply(function, args)
                if dtype.is_float
                else self.plain.apply(function, args, dtype, result)
            )

    def cast(self, value: Array, source: DType, target: DType) -> Array:
        if self.keeps(source, target):
            return value
        if source.is_complex:
            real, imaginary = value["re"], value["im"]
            if target is DType.BOOL:
                return np.asarray((self.numbers.residues(real) != 0) | (self.numbers.residues(imaginary) != 0))
            return self.cast(real, source.real, target)
        if target.is_complex:
            real = self.cast(value, source, target.real)
            return pair(real, np.zeros_like(real))
        if target.is_float:
            return self.field.reduce(value.astype(np.int64))
        if source.is_float and target is DType.BOOL:
            return np.asarray(self.numbers.residues(value) != 0)
        if source.is_float:
            return self.plain.cast(self.functions.integers(value), DType.I64, target)
        return self.plain.cast(value, source, target)

    def keeps(self, source: DType, target: DType) -> bool:
        return source is target or (source.is_float and target.is_float) or (source.is_complex and target.is_complex)

    def stored(self, value: Array, dtype: DType) -> Array:
        return value

    def fold(self, monoid: str, values: Arrays, dtypes: Sequence[DType], axes: tuple[int, ...]) -> Arrays:
        if not (dtypes[0].is_float or dtypes[0].is_complex):
            return self.plain.fold(monoid, values, dtypes, axes)
        with np.errstate(all="ignore"):
            if dtypes[0].is_complex:
                return (self.complexes.fold(monoid, values[0], axes),)
            return reductions.fold(self.functions, monoid, values, axes)

    def merge(self, monoid: str, left: Arrays, right: Arrays, dtypes: Sequence[DType]) -> Arrays:
        stacked = tuple(np.stack(np.broadcast_arrays(a, b)) for a, b in zip(left, right, strict=True))
        return tuple(v[0] for v in self.fold(monoid, stacked, dtypes, (0,)))

    def contracts(self, dtype: DType) -> bool:
        return dtype is not DType.BOOL

    def matmul(self, left: Array, right: Array, dtype: DType) -> Array:
        if dtype.is_complex:
            return self.complexes.product(left, right, self._matmul)
        return self._matmul(left, right) if dtype.is_float else self.plain.matmul(left, right, dtype)

    def _matmul(self, left: Array, right: Array) -> Array:
        value = self.field.matmul(self.numbers.ordinary(left), self.numbers.ordinary(right))
        if not (marked(left) or marked(right)):
            return value
        with np.errstate(all="ignore"):
            rough = np.matmul(self.numbers.standing(left), self.numbers.standing(right))
        odd = ~np.isfinite(rough)
        value[odd] = self.numbers.encode_all(rough[odd])
        return value

    def finite(self, value: Array) -> bool:
        if value.dtype == PAIR:
            return not (marked(value["re"]) or marked(value["im"]))
        return value.dtype != np.int64 or not marked(value)

    def scatter(self, op: str, out: Array, where: Array, values: Array, dtype: DType) -> None:
        if op == "set" or not (dtype.is_float or dtype.is_complex):
            self.plain.scatter(op, out, where, values, dtype)
            return
        order = np.argsort(where, kind="stable")
        place = where[order]
        first = np.searchsorted(place, place)  # of the writers to the same position
        rank = np.arange(len(place)) - first
        for turn in range(int(rank.max(initial=-1)) + 1):
            now = order[rank == turn]
            out[where[now]] = self.apply(op, (out[where[now]], values[now]), dtype, dtype)

    def order(self, values: Array, dtype: DType, axis: int, descending: bool) -> Array:
        keys = self.numbers.keys(values) if dtype.is_float else values
        return stable_order(keys, axis, descending)

    def lookup(self, values: Array, low: Array, high: Array) -> tuple[Array, Array]:
        span = np.maximum(high - low, 1)
        return np.asarray(low + (values - low) % span), np.zeros((1,) * values.ndim, bool)
