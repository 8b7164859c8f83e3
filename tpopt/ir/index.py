"""Index arithmetic: integer polynomials over iterators, symbols and quasi-affine atoms.

An :class:`Index` is kept in one canonical form at all times: a sorted sum of monomials, each an integer coefficient
times a product of atoms. An atom is an :class:`Iter`, a :class:`Symbol`, a :class:`FloorDiv`, a :class:`Mod` or a
:class:`Lookup` (a value read from an integer tensor, with proved bounds). Extents are indices without iterators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeAlias, Union

from tpopt.errors import InvalidProgram
from tpopt.ir.intern import Term
from tpopt.ir.names import quoted

if TYPE_CHECKING:
    from tpopt.ir.terms import Tensor

Monomial: TypeAlias = "tuple[int, tuple[Atom, ...]]"
IndexLike: TypeAlias = Union["Index", "Atom", int]


class _Arithmetic:
    """Operators shared by atoms and indices; every result is a canonical :class:`Index`."""

    def __add__(self, other: IndexLike) -> Index:
        return add(self, other)  # type: ignore[arg-type]

    __radd__ = __add__

    def __neg__(self) -> Index:
        return multiply(self, -1)  # type: ignore[arg-type]

    def __sub__(self, other: IndexLike) -> Index:
        return add(self, multiply(other, -1))  # type: ignore[arg-type]

    def __rsub__(self, other: IndexLike) -> Index:
        return add(other, multiply(self, -1))  # type: ignore[arg-type]

    def __mul__(self, other: IndexLike) -> Index:
        return multiply(self, other)  # type: ignore[arg-type]

    __rmul__ = __mul__

    def __floordiv__(self, other: IndexLike) -> Index:
        from tpopt.ir.division import floordiv

        return floordiv(self, other)  # type: ignore[arg-type]

    def __mod__(self, other: IndexLike) -> Index:
        from tpopt.ir.division import mod

        return mod(self, other)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Index(Term, _Arithmetic):
    """A sum of monomials ``coefficient * atom * ...`` in canonical order; ``()`` is zero."""

    terms: tuple[Monomial, ...]

    @cached_property
    def text(self) -> str:
        """Canonical text, also the sorting key of the atoms that contain this index."""
        if not self.terms:
            return "0"
        parts: list[str] = []
        for coefficient, atoms in self.terms:
            alone = coefficient == 1 and len(atoms) == 1
            factors = [a.text if alone or not isinstance(a, (FloorDiv, Mod)) else f"({a.text})" for a in atoms]
            if abs(coefficient) != 1 or not atoms:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            parts.append((sign if parts or coefficient < 0 else "") + "*".join(factors))
        return "".join(parts)

    @property
    def operand_text(self) -> str:
        """The text as the operand of a division: in parentheses unless it is one name or number."""
        lone = len(self.terms) == 1 and self.terms[0][0] == 1 and len(self.terms[0][1]) == 1
        number = self.constant
        if (lone and not isinstance(self.terms[0][1][0], (FloorDiv, Mod))) or (number is not None and number >= 0):
            return self.text
        return f"({self.text})"

    @property
    def constant(self) -> int | None:
        """The value where it is a plain integer, else ``None``."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][1]:
            return self.terms[0][0]
        return None

    @property
    def offset(self) -> int:
        """The constant monomial."""
        return next((c for c, atoms in self.terms if not atoms), 0)

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        """Distinct atoms in canonical order (not those nested inside an atom)."""
        return tuple(dict.fromkeys(a for _, atoms in self.terms for a in atoms))

    @cached_property
    def nested_atoms(self) -> tuple[Atom, ...]:
        """Every distinct atom, nested ones included, outermost first."""
        found: dict[Atom, None] = {}
        pending = [self]
        while pending:
            for atom in pending.pop().atoms:
                if atom in found:
                    continue
                found[atom] = None
                if isinstance(atom, (FloorDiv, Mod)):
                    pending += [atom.numerator, atom.denominator]
                elif isinstance(atom, Lookup):
                    pending += [*atom.indices, atom.low, atom.high]
        return tuple(found)

    def coefficient(self, atom: Atom) -> Index:
        """Sum of what multiplies the first power of ``atom``: ``(2*s*i + i).coefficient(i) == 2*s + 1``."""
        picked: list[Monomial] = []
        for c, atoms in self.terms:
            if atoms.count(atom) == 1:
                rest = list(atoms)
                rest.remove(atom)
                picked.append((c, tuple(rest)))
        return collect(picked)

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class Iter(Term, _Arithmetic):
    """A loop variable running over ``0 <= name < extent``."""

    name: str
    extent: Size

    def __post_init__(self) -> None:
        extent = size(self.extent)
        if isinstance(extent, int) and extent < 0:
            raise InvalidProgram(f"iterator {self.name}: its extent {extent} is negative")
        object.__setattr__(self, "extent", extent)

    @cached_property
    def text(self) -> str:
        """The name as program text writes it."""
        return quoted(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{self.name}:{self.extent}"


@dataclass(frozen=True, eq=False)
class Symbol(Term, _Arithmetic):
    """An integer known only at run time, with ``low <= name <= high`` (``high`` None: unbounded)."""

    name: str
    low: int = 0
    high: int | None = None

    @cached_property
    def text(self) -> str:
        """The name as program text writes it."""
        return quoted(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{self.name} in [{self.low}, {'inf' if self.high is None else self.high}]"


@dataclass(frozen=True, eq=False)
class FloorDiv(Term, _Arithmetic):
    """``floor(numerator / denominator)``; build with :func:`tpopt.ir.division.floordiv`, which simplifies."""

    numerator: Index
    denominator: Index

    @cached_property
    def text(self) -> str:
        return f"{self.numerator.operand_text}//{self.denominator.operand_text}"

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Mod(Term, _Arithmetic):
    """``numerator - denominator * floor(numerator / denominator)``; build with :func:`tpopt.ir.division.mod`."""

    numerator: Index
    denominator: Index

    @cached_property
    def text(self) -> str:
        return f"{self.numerator.operand_text}%{self.denominator.operand_text}"

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Lookup(Term, _Arithmetic):
    """The integer stored at ``tensor[indices]``, promised to satisfy ``low <= value < high``."""

    tensor: Tensor
    indices: tuple[Index, ...]
    low: Index
    high: Index

    def __post_init__(self) -> None:
        if not self.tensor.dtype.is_integer:
            raise InvalidProgram(f"lookup of {self.tensor.name}: expected an integer tensor, got {self.tensor.dtype}")
        if len(self.indices) != len(self.tensor.shape):
            raise InvalidProgram(
                f"lookup of {self.tensor.name}: {len(self.indices)} indices for rank {len(self.tensor.shape)}"
            )

    @cached_property
    def text(self) -> str:
        where = ",".join(i.text for i in self.indices)
        return f"{quoted(self.tensor.name)}[{where}]{{{self.low.text}:{self.high.text}}}"

    def __repr__(self) -> str:
        return self.text


Atom: TypeAlias = Iter | Symbol | FloorDiv | Mod | Lookup
Size: TypeAlias = int | Index
_RANK = {Symbol: 0, Iter: 1, Lookup: 2, FloorDiv: 3, Mod: 4}


def _atom_key(atom: Atom) -> tuple[int, str, str]:
    extent = str(atom.extent) if isinstance(atom, Iter) else ""
    return (_RANK[type(atom)], atom.text, extent)


def collect(monomials: Iterable[Monomial]) -> Index:
    """The canonical sum of monomials in any order, their atoms in any order."""
    sums: dict[tuple[Atom, ...], int] = {}
    for coefficient, atoms in monomials:
        key = tuple(sorted(atoms, key=_atom_key)) if len(atoms) > 1 else atoms
        sums[key] = sums.get(key, 0) + coefficient
    kept = [(c, atoms) for atoms, c in sums.items() if c]
    kept.sort(key=lambda m: (not m[1], [_atom_key(a) for a in m[1]]))
    return Index(tuple(kept))


def index(value: IndexLike) -> Index:
    """Turns an integer or an atom into an :class:`Index`."""
    return value if isinstance(value, Index) else _alone(value)


@lru_cache(maxsize=1 << 13)
def _alone(value: Atom | int) -> Index:
    if isinstance(value, int):
        return Index(((int(value), ()),)) if value else Index(())
    return Index(((1, (value,)),))


def size(value: IndexLike) -> Size:
    """Canonical extent: a plain ``int`` where the value is known, an :class:`Index` otherwise."""
    if isinstance(value, int):
        return int(value)
    canonical = index(value)
    known = canonical.constant
    return canonical if known is None else known


def add(*values: IndexLike) -> Index:
    """Sum of indices."""
    return collect(m for v in values for m in index(v).terms)


def multiply(left: IndexLike, right: IndexLike) -> Index:
    """Product of indices, expanded."""
    a, b = index(left), index(right)
    return collect((ca * cb, aa + ab) for ca, aa in a.terms for cb, ab in b.terms)


def product(values: Iterable[IndexLike]) -> Size:
    """Product of extents; 1 when empty."""
    total = index(1)
    for value in values:
        total = multiply(total, value)
    return size(total)


def substitute(where: IndexLike, mapping: Mapping[Atom, IndexLike]) -> Index:
    """Replaces atoms, also those nested in divisions and lookups, and simplifies again.

    Extents of iterators are not rewritten: replace the iterator itself instead.
    """
    return map_atoms(where, mapping.get)


def map_atoms(where: IndexLike, replace: Callable[[Atom], IndexLike | None]) -> Index:
    """Rebuilds an index bottom-up; ``replace`` returns what stands for an atom, or ``None`` to keep it."""
    from tpopt.ir.division import floordiv, mod

    def other(atom: Atom) -> IndexLike:
        new = replace(atom)
        if new is None and isinstance(atom, (FloorDiv, Mod)):
            build = floordiv if isinstance(atom, FloorDiv) else mod
            return build(map_atoms(atom.numerator, replace), map_atoms(atom.denominator, replace))
        if new is None and isinstance(atom, Lookup):
            inner = tuple(map_atoms(i, replace) for i in atom.indices)
            return Lookup(atom.tensor, inner, map_atoms(atom.low, replace), map_atoms(atom.high, replace))
        return atom if new is None else new

    total: list[Monomial] = []
    for coefficient, atoms in index(where).terms:
        if len(atoms) == 1:
            total += [(coefficient * c, rest) for c, rest in index(other(atoms[0])).terms]
            continue
        part = index(coefficient)
        for atom in atoms:
            part = multiply(part, other(atom))
        total.extend(part.terms)
    return collect(total)


def walk_atoms(where: IndexLike) -> tuple[Atom, ...]:
    """Every distinct atom, nested ones included, outermost first."""
    return index(where).nested_atoms


def evaluate(where: IndexLike, values: Mapping[str, int]) -> int:
    """Value of an index without lookups, given its iterators' and symbols' values by name."""
    total = 0
    for coefficient, atoms in index(where).terms:
        part = coefficient
        for atom in atoms:
            if isinstance(atom, (Iter, Symbol)):
                part *= values[atom.name]
            elif isinstance(atom, (FloorDiv, Mod)):
                q, r = divmod(evaluate(atom.numerator, values), evaluate(atom.denominator, values))
                part *= q if isinstance(atom, FloorDiv) else r
            else:
                raise InvalidProgram(f"{atom.text} depends on data: it has no value before the program runs")
        total += part
    return total
