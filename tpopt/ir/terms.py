"""Tensors, guards and scalar terms: what a stage computes at one point of its loops.

Every term knows its ``dtype``; operands of one function have one type, so each conversion is a visible
:class:`Cast`. Terms are interned: equal terms are one object, compared with ``is``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from tpopt.errors import InvalidProgram
from tpopt.ir.dtypes import DType
from tpopt.ir.functions import function, monoid
from tpopt.ir.index import Index, IndexLike, Iter, Size, index, size
from tpopt.ir.intern import Term
from tpopt.ir.structure import DENSE, Structure

Number: TypeAlias = bool | int | float | complex


class _Operators:
    """Operators on scalar terms; Python numbers take the other operand's type."""

    dtype: DType

    def _with(self, name: str, other: ScalarLike, swap: bool = False) -> Apply:
        o = as_scalar(other, self.dtype)
        a, b = (o, self) if swap else (self, o)
        return Apply(name, (a, b))  # type: ignore[arg-type]

    def __add__(self, other: ScalarLike) -> Apply:
        return self._with("add", other)

    def __radd__(self, other: ScalarLike) -> Apply:
        return self._with("add", other, swap=True)

    def __sub__(self, other: ScalarLike) -> Apply:
        return self._with("sub", other)

    def __rsub__(self, other: ScalarLike) -> Apply:
        return self._with("sub", other, swap=True)

    def __mul__(self, other: ScalarLike) -> Apply:
        return self._with("mul", other)

    def __rmul__(self, other: ScalarLike) -> Apply:
        return self._with("mul", other, swap=True)

    def __truediv__(self, other: ScalarLike) -> Apply:
        return self._with("div", other)

    def __rtruediv__(self, other: ScalarLike) -> Apply:
        return self._with("div", other, swap=True)

    def __neg__(self) -> Apply:
        return Apply("neg", (self,))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Tensor(Term):
    """A named array: shape (ints or indices over symbols), element type, physical layout, algebraic structure.

    ``layout`` is empty for row-major; ``structure`` is a formula that the values obey (``dense`` claims nothing).
    Its role (input, weight, local, output) is where the Program lists it.
    """

    name: str
    shape: tuple[Size, ...]
    dtype: DType
    layout: str = ""
    structure: Structure = DENSE

    def __post_init__(self) -> None:
        shape = tuple(size(e) for e in self.shape)
        if any(isinstance(e, int) and e < 0 for e in shape):
            raise InvalidProgram(f"tensor {self.name}: its shape {list(map(str, shape))} has a negative extent")
        object.__setattr__(self, "shape", shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: IndexLike | tuple[IndexLike, ...]) -> Read:
        indices = where if isinstance(where, tuple) else (where,)
        return Read(self, tuple(index(i) for i in indices))

    def at(self, indices: Sequence[IndexLike]) -> Read:
        """``tensor[indices]``; the form for rank 0 too."""
        return Read(self, tuple(index(i) for i in indices))

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, eq=False)
class Bound(Term):
    """One conjunct of a guard: ``low <= value < high``."""

    low: Index
    value: Index
    high: Index


@dataclass(frozen=True, eq=False)
class Guard(Term):
    """A conjunction of bounds in canonical order. :func:`tpopt.ir.build.guard` builds it and drops what is proved."""

    bounds: tuple[Bound, ...]


@dataclass(frozen=True, eq=False)
class Const(Term, _Operators):
    """A literal of a type. Infinities and NaN are allowed for floats."""

    value: Number
    dtype: DType

    def __post_init__(self) -> None:
        kind: type = (
            bool
            if self.dtype is DType.BOOL
            else int
            if self.dtype.is_integer
            else float
            if self.dtype.is_float
            else complex
        )
        if type(self.value) is not kind:
            raise InvalidProgram(
                f"constant {self.value!r}: a {self.dtype} literal must be a Python {kind.__name__}; use const()"
            )


@dataclass(frozen=True, eq=False)
class Read(Term, _Operators):
    """``tensor[indices]``, in bounds wherever it is evaluated (a :class:`Select` may protect it)."""

    tensor: Tensor
    indices: tuple[Index, ...]

    def __post_init__(self) -> None:
        if len(self.indices) != self.tensor.rank:
            raise InvalidProgram(
                f"read of {self.tensor!r} with {len(self.indices)} indices: expected {self.tensor.rank}"
            )

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.tensor.dtype


_DOMAINS: dict[str, Callable[[DType], bool]] = {
    "any": lambda d: True,
    "number": lambda d: d is not DType.BOOL,
    "float": lambda d: d.is_float or d.is_complex,
    "real": lambda d: d.is_float,
    "ordered": lambda d: not d.is_complex,
    "integral": lambda d: d.is_integer or d is DType.BOOL,
    "complex": lambda d: d.is_complex,
    "bool": lambda d: d is DType.BOOL,
}


@dataclass(frozen=True, eq=False)
class Apply(Term, _Operators):
    """A function of :mod:`tpopt.ir.functions` applied to arguments of one type (``where``: bool, then two alike)."""

    function: str
    args: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        spec = function(self.function)
        if not (len(self.args) == spec.arity or (spec.arity < 0 and len(self.args) >= 2)):
            expected = "two or more" if spec.arity < 0 else spec.arity
            raise InvalidProgram(f"{self.function} takes {expected} arguments, got {len(self.args)}")
        args = self.args
        if self.function == "where":
            if args[0].dtype is not DType.BOOL:
                raise InvalidProgram(f"where: the condition is {args[0].dtype}, expected bool; cast it")
            args = args[1:]
        kinds = [a.dtype for a in args]
        if any(k is not kinds[0] for k in kinds):
            raise InvalidProgram(f"{self.function}: argument types differ: {', '.join(map(str, kinds))}; insert a Cast")
        if not _DOMAINS[spec.domain](kinds[0]):
            raise InvalidProgram(f"{self.function}: {kinds[0]} arguments are outside its domain ({spec.domain})")

    @cached_property
    def dtype(self) -> DType:  # type: ignore[override]
        last = self.args[-1].dtype
        how = function(self.function).result
        if how == "same":
            return last
        return {"bool": DType.BOOL, "real": last.real}[how] if how != "complex" else last.complex


@dataclass(frozen=True, eq=False)
class Reduce(Term, _Operators):
    """The ``pick``-th component of reducing ``bodies`` over ``iters`` with a monoid.

    Stages with several outputs share one reduction by holding the same ``bodies`` with different ``pick``.
    An empty range yields the monoid's identity.
    """

    monoid: str
    iters: tuple[Iter, ...]
    bodies: tuple[Scalar, ...]
    pick: int = 0

    def __post_init__(self) -> None:
        spec = monoid(self.monoid)
        if len(self.bodies) != spec.width or not 0 <= self.pick < spec.width:
            raise InvalidProgram(
                f"{self.monoid} carries {spec.width} values; got {len(self.bodies)}, picking number {self.pick}"
            )
        if not _DOMAINS[spec.domain](self.bodies[0].dtype):
            raise InvalidProgram(f"{self.monoid} over {self.bodies[0].dtype}: outside its domain ({spec.domain})")

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.bodies[self.pick].dtype


@dataclass(frozen=True, eq=False)
class Select(Term, _Operators):
    """``inside`` where the guard holds, else ``outside``; the other branch is not evaluated."""

    guard: Guard
    inside: Scalar
    outside: Scalar

    def __post_init__(self) -> None:
        if self.inside.dtype is not self.outside.dtype:
            raise InvalidProgram(f"select: branches are {self.inside.dtype} and {self.outside.dtype}; insert a Cast")

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.inside.dtype


@dataclass(frozen=True, eq=False)
class Cast(Term, _Operators):
    """Conversion: float to integer truncates, to bool tests for non-zero, complex to real takes the real part."""

    dtype: DType
    value: Scalar


@dataclass(frozen=True, eq=False)
class Position(Term, _Operators):
    """The value of an index as an ``i64`` scalar."""

    value: Index

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return DType.I64


Scalar: TypeAlias = Const | Read | Apply | Reduce | Select | Cast | Position
ScalarLike: TypeAlias = Scalar | Number


def const(value: Number, dtype: DType) -> Const:
    """A literal converted to ``dtype``'s Python kind."""
    if dtype is DType.BOOL:
        return Const(bool(value), dtype)
    if dtype.is_complex:
        return Const(complex(value), dtype)
    if isinstance(value, complex):
        raise InvalidProgram(f"constant {value!r} is complex; {dtype} is not")
    return Const(int(value) if dtype.is_integer else float(value), dtype)


def as_scalar(value: ScalarLike, dtype: DType) -> Scalar:
    """``value`` itself when it is a term, else a literal of ``dtype``."""
    if isinstance(value, (bool, int, float, complex)):
        return const(value, dtype)
    return value


def cast(value: Scalar, dtype: DType) -> Scalar:
    """``Cast`` unless the type is right already."""
    return value if value.dtype is dtype else Cast(dtype, value)
