"""Stages: the statements of a Program. Each defines its output tensors once from tensors defined before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tpopt.errors import InvalidProgram
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, Iter, Size, index
from tpopt.ir.intern import Term
from tpopt.ir.terms import Guard, Scalar, Tensor

if TYPE_CHECKING:
    from tpopt.ir.program import Program

Attribute: TypeAlias = "bool | int | float | complex | str | DType | Index | Tensor | tuple[Attribute, ...] | None"
SCATTER_OPS = ("set", "add", "mul", "max", "min")


@dataclass(frozen=True, eq=False)
class Compute(Term):
    """``outs[loops] = body`` for every point of ``loops``; several outs share the loops (and usually a reduction)."""

    outs: tuple[Tensor, ...]
    loops: tuple[Iter, ...]
    bodies: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if len(self.outs) != len(self.bodies) or not self.outs:
            raise InvalidProgram(f"compute has {len(self.outs)} outputs and {len(self.bodies)} bodies")
        for out, body in zip(self.outs, self.bodies, strict=True):
            if out.dtype is not body.dtype:
                raise InvalidProgram(f"{out.name}: declared {out.dtype}, its body is {body.dtype}; insert a Cast")
            if tuple(map(index, out.shape)) != tuple(index(i.extent) for i in self.loops):
                raise InvalidProgram(f"{out!r}: shape differs from its loops {[repr(i) for i in self.loops]}")


@dataclass(frozen=True, eq=False)
class Scatter(Term):
    """``out = base; for loops in row-major order: if guard: out[at] = op(out[at], value)``.

    ``op`` is one of ``set`` (the last writer wins), ``add``, ``mul``, ``max``, ``min``.
    """

    out: Tensor
    base: Tensor
    op: str
    loops: tuple[Iter, ...]
    at: tuple[Index, ...]
    value: Scalar
    guard: Guard | None = None

    def __post_init__(self) -> None:
        if self.op not in SCATTER_OPS:
            from tpopt.errors import UnknownName

            raise UnknownName("scatter operator", self.op, list(SCATTER_OPS))
        if self.out.dtype is not self.base.dtype or self.out.dtype is not self.value.dtype:
            raise InvalidProgram(f"scatter into {self.out!r}: base is {self.base.dtype}, value is {self.value.dtype}")
        if self.out.shape != self.base.shape or len(self.at) != self.out.rank:
            raise InvalidProgram(f"scatter into {self.out!r}: base is {self.base!r}, {len(self.at)} indices")

    @property
    def outs(self) -> tuple[Tensor, ...]:
        return (self.out,)


@dataclass(frozen=True, eq=False)
class Scan(Term):
    """A loop carried over ``over``: ``(carry, y) = body(carry, xs[t], captures)`` for t = 0, 1, ….

    ``body.inputs`` are the carries, then one slice of each ``xs`` (its first axis dropped), then the captures, by
    position; a body that needs the step declares and reads the symbol named as the iterator. ``body.outputs`` are the
    next carries, then one slice for each stacked output. ``outs`` are the final carries, then the stacked outputs
    (first axis ``over.extent``).
    """

    outs: tuple[Tensor, ...]
    init: tuple[Tensor, ...]
    xs: tuple[Tensor, ...]
    captures: tuple[Tensor, ...]
    over: Iter
    body: Program

    def __post_init__(self) -> None:
        wanted = len(self.init) + len(self.xs) + len(self.captures)
        if len(self.body.inputs) != wanted:
            raise InvalidProgram(
                f"scan body takes {len(self.body.inputs)} tensors; carries, slices and captures are {wanted}"
            )
        if len(self.body.outputs) != len(self.outs) or len(self.outs) < len(self.init):
            raise InvalidProgram(f"scan body yields {len(self.body.outputs)} tensors for {len(self.outs)} outputs")


@dataclass(frozen=True, eq=False)
class Cond(Term):
    """``then(captures)`` where the 0-d bool ``predicate`` holds, else ``otherwise(captures)``."""

    outs: tuple[Tensor, ...]
    predicate: Tensor
    captures: tuple[Tensor, ...]
    then: Program
    otherwise: Program


@dataclass(frozen=True, eq=False)
class Sort(Term):
    """Sorted values and their source positions (``i64``) along ``axis``; NaN is greater than every number."""

    values: Tensor
    indices: Tensor
    source: Tensor
    axis: int
    descending: bool = False
    stable: bool = True

    @property
    def outs(self) -> tuple[Tensor, ...]:
        return (self.values, self.indices)


@dataclass(frozen=True, eq=False)
class TopK(Term):
    """The ``k`` largest (or smallest) along ``axis``, in order when ``sorted``, with their positions (``i64``).

    Which of equal values these are is not said: whoever runs it takes those that torch takes.
    """

    values: Tensor
    indices: Tensor
    source: Tensor
    k: Size
    axis: int
    largest: bool = True
    sorted: bool = True

    @property
    def outs(self) -> tuple[Tensor, ...]:
        return (self.values, self.indices)


@dataclass(frozen=True, eq=False)
class Kernel(Term):
    """A library call that keeps the algebra it stands for.

    ``defines`` are stages which compute ``outs`` from ``reads``; tensors they define besides ``outs`` are private.
    ``implementation`` names the call, ``parameters`` its attributes, ``layouts`` the physical layout of each of
    ``reads`` then ``outs`` (empty: all row-major).
    """

    outs: tuple[Tensor, ...]
    implementation: str
    reads: tuple[Tensor, ...]
    defines: tuple[Stage, ...]
    parameters: tuple[tuple[str, Attribute], ...] = ()
    layouts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Opaque(Term):
    """An ATen call kept whole: ``target(*args, **kwargs)``; tensors appear among the arguments as :class:`Tensor`.

    ``effectful`` calls (random numbers, printing) keep their order and are never merged or dropped. ``outs`` may hold
    ``None``-free tensors only; an output whose shape depends on data carries fresh symbols.
    """

    outs: tuple[Tensor, ...]
    target: str
    args: tuple[Attribute, ...]
    kwargs: tuple[tuple[str, Attribute], ...] = ()
    effectful: bool = False


Stage: TypeAlias = Compute | Scatter | Scan | Cond | Sort | TopK | Kernel | Opaque
