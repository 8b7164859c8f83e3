"""Algebraic structure of a tensor: a formula its values obey, kept as a formula until somebody needs the array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tpopt.ir.intern import Term

Parameter: TypeAlias = "int | float | str | Structure | tuple[Parameter, ...]"
KINDS = (
    "dense",
    "dft",
    "kron",
    "circulant",
    "toeplitz",
    "diagonal",
    "permutation",
    "one_hot",
    "identity",
    "low_rank",
    "block_sparse",
    "symmetric",
    "toom_cook",
    "strassen",
)


@dataclass(frozen=True, eq=False)
class Structure(Term):
    """``kind(parameters)``.

    ``dense()`` claims nothing. ``dft(n, rows, columns, sign)`` is ``exp(sign*2πi*r*c/n)`` on a matrix of that many rows
    and columns. ``identity()``, ``diagonal()``, ``symmetric()``, ``circulant()`` and ``toeplitz()`` speak of the last
    two axes. ``permutation(p...)`` and ``one_hot(p...)`` list the column of the one in each row. ``kron(s...)`` lists
    the shapes of the factors, ``low_rank(r)`` the rank, ``block_sparse(rows, columns)`` the block.
    ``toom_cook(part, m, r)`` is one of the matrices of :mod:`tpopt.ir.toom_cook`, ``strassen(part)`` one of the tensors
    of :mod:`tpopt.ir.strassen`.
    """

    kind: str
    parameters: tuple[Parameter, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            from tpopt.errors import UnknownName

            raise UnknownName("structure", self.kind, sorted(KINDS))

    def __str__(self) -> str:
        from tpopt.ir.text import print_structure

        return print_structure(self)

    __repr__ = __str__


DENSE = Structure("dense")
