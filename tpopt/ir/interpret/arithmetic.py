"""What the evaluation engine asks of a number system: the reals in float64, or residues of a finite field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from tpopt.ir.dtypes import DType
from tpopt.ir.program import Array
from tpopt.ir.terms import Number

Arrays: TypeAlias = tuple[Array, ...]


class Arithmetic(Protocol):
    """Arrays of one number system. The engine moves, slices and selects elements; only this computes with them.

    Integers and bools are plain numpy arrays at their width in every system. No method changes its arguments.
    """

    def storage(self, dtype: DType) -> np.dtype[Any]:
        """The numpy type that holds elements of ``dtype``."""
        ...

    def constant(self, value: Number, dtype: DType) -> Array:
        """A literal, as a 0-d array."""
        ...

    def apply(self, function: str, args: Sequence[Array], dtype: DType, result: DType) -> Array:
        """A scalar function on arrays that broadcast; ``dtype`` is that of the last argument."""
        ...

    def cast(self, value: Array, source: DType, target: DType) -> Array:
        """Conversion of elements."""
        ...

    def keeps(self, source: DType, target: DType) -> bool:
        """Whether a conversion leaves every element as it is."""
        ...

    def stored(self, value: Array, dtype: DType) -> Array:
        """What a stage's output of ``dtype`` keeps of a computed value."""
        ...

    def fold(self, monoid: str, values: Arrays, dtypes: Sequence[DType], axes: tuple[int, ...]) -> Arrays:
        """Reduces ``axes`` (kept with extent 1); identities where an axis is empty."""
        ...

    def merge(self, monoid: str, left: Arrays, right: Arrays, dtypes: Sequence[DType]) -> Arrays:
        """Combines two partial reductions, elementwise."""
        ...

    def contracts(self, dtype: DType) -> bool:
        """Whether sums of products of ``dtype`` may be regrouped and go through :meth:`matmul`."""
        ...

    def matmul(self, left: Array, right: Array, dtype: DType) -> Array:
        """Matrix product over the last two axes; the axes before them broadcast."""
        ...

    def finite(self, value: Array) -> bool:
        """Whether every element is an ordinary number, so that zero times it is zero."""
        ...

    def scatter(self, op: str, out: Array, where: Array, values: Array, dtype: DType) -> None:
        """``out[where] = op(out[where], values)`` in order, on flat arrays; ``out`` is changed."""
        ...

    def order(self, values: Array, dtype: DType, axis: int, descending: bool) -> Array:
        """Stable sorting positions along ``axis``; NaN is greater than every number."""
        ...

    def lookup(self, values: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The values to index with, within ``[low, high)``, and where the given ones break that promise."""
        ...
