"""Weights that no module owns: formulas (the matrices of Fourier transforms) and tables that a lowering works out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpopt.ir import Builder, DType, Structure, Tensor
from tpopt.ir.index import IndexLike
from tpopt.ir.program import Array


class OwnWeights:
    """One tensor for each distinct formula or table, whoever asks for it.

    A structured weight needs no entry in ``constants``: its values follow from its structure.
    """

    def __init__(self, builder: Builder, constants: dict[str, Array]) -> None:
        self._builder = builder
        self._constants = constants
        self._known: dict[tuple[object, ...], Tensor] = {}

    @property
    def all(self) -> tuple[Tensor, ...]:
        """Every weight handed out, in order of first use."""
        return tuple(self._known.values())

    def structured(self, base: str, shape: Sequence[IndexLike], dtype: DType, structure: Structure) -> Tensor:
        """The weight of that structure; ``base`` is its name when it is new."""
        from tpopt.ir.build import tensor

        key = (structure, dtype, tuple(shape))
        if key not in self._known:
            plain = tensor(self._builder.name(base), shape, dtype)
            self._known[key] = Tensor(plain.name, plain.shape, dtype, "", structure)
        return self._known[key]

    def table(self, base: str, values: Array, dtype: DType) -> Tensor:
        """A constant with the given values (in numpy's form of ``dtype``)."""
        kept = np.ascontiguousarray(values)
        key = (dtype, kept.shape, kept.dtype.str, kept.tobytes())
        if key not in self._known:
            found = Tensor(self._builder.name(base), tuple(kept.shape), dtype)
            self._known[key], self._constants[found.name] = found, kept
        return self._known[key]
