"""Index expressions as integer tensors, guards as masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tpopt.errors import UnsupportedInput
from tpopt.ir.bounds import interval
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Atom, FloorDiv, Index, Iter, Lookup, Mod
from tpopt.ir.terms import Bound, Guard, Read
from tpopt.ir.to_torch.lowering import Lowering, Named


@dataclass(frozen=True)
class Affine:
    """``sum of coefficient * iterator + offset``."""

    coefficients: tuple[tuple[Iter, int], ...]
    offset: int

    @property
    def span(self) -> tuple[int, int]:
        """Smallest and largest value."""
        low = high = self.offset
        for it, c in self.coefficients:
            reach = c * (_extent(it) - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high


def _extent(it: Iter) -> int:
    assert isinstance(it.extent, int), f"{it!r} is not specialised"
    return it.extent


def affine(where: Index) -> Affine | None:
    """The index as an integer combination of iterators, or ``None``."""
    coefficients: list[tuple[Iter, int]] = []
    offset = 0
    for c, atoms in where.terms:
        if not atoms:
            offset = c
        elif len(atoms) == 1 and isinstance(atoms[0], Iter):
            coefficients.append((atoms[0], c))
        else:
            return None
    return Affine(tuple(coefficients), offset)


def index_value(low: Lowering, where: Index) -> Named:
    """The values of an index as an ``int64`` tensor over the iterators it depends on."""
    total: Named | None = None
    for c, atoms in where.terms:
        if not atoms:
            continue
        part = _atom(low, atoms[0])
        for atom in atoms[1:]:
            part = low.pointwise(torch.mul, part, _atom(low, atom), fold=True)
        if c != 1:
            part = low.pointwise(_times(c), part, fold=True)
        total = part if total is None else low.pointwise(torch.add, total, part, fold=True)
    if total is None:
        return low.literal(where.offset, DType.I64)
    return low.pointwise(_plus(where.offset), total, fold=True) if where.offset else total


def _times(c: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda t: t * c


def _plus(c: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda t: t + c


def _atom(low: Lowering, atom: Atom) -> Named:
    match atom:
        case Iter():
            return low.iota(atom)
        case FloorDiv() | Mod():
            numerator, denominator = index_value(low, atom.numerator), index_value(low, atom.denominator)
            run = _floordiv if isinstance(atom, FloorDiv) else torch.remainder
            return low.pointwise(run, numerator, denominator, fold=True)
        case Lookup():
            return _lookup(low, atom)
    raise AssertionError(f"{atom!r} is not specialised")


def _floordiv(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.div(a, b, rounding_mode="floor")


def _lookup(low: Lowering, atom: Lookup) -> Named:
    from tpopt.ir.to_torch.reads import lower_read

    lower, upper = low.setting.size(atom.low), low.setting.size(atom.high)
    value = lower_read(low, Read(atom.tensor, atom.indices), fill=lower)
    if low.setting.check:
        value = low.pointwise(_checked(atom.tensor.name, lower, upper), value)
    return low.pointwise(lambda t: t.to(torch.int64), value)


def _checked(name: str, lower: int, upper: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(t: torch.Tensor) -> torch.Tensor:
        if t.numel() and (int(t.min()) < lower or int(t.max()) >= upper):
            raise UnsupportedInput(
                f"{name} holds {int(t.min())}…{int(t.max())}, but it is used as an index within [{lower}, {upper})"
            )
        return t

    return run


def mask(low: Lowering, guard: Guard) -> Named:
    """The guard as a ``bool`` tensor over the iterators it depends on."""
    parts = [_bound(low, b) for b in guard.bounds]
    parts.sort(key=lambda p: len(p.axes))
    total = parts[0] if parts else low.literal(True, DType.BOOL)
    for part in parts[1:]:
        total = low.pointwise(torch.logical_and, total, part, fold=True)
    return total


def _bound(low: Lowering, bound: Bound) -> Named:
    value = index_value(low, bound.value)
    lower, upper = bound.low.constant, bound.high.constant
    if lower is None or upper is None:
        above = low.pointwise(torch.ge, value, index_value(low, bound.low), fold=True)
        below = low.pointwise(torch.lt, value, index_value(low, bound.high), fold=True)
        return low.pointwise(torch.logical_and, above, below, fold=True)
    least, most = interval(bound.value)
    if least is not None and least >= lower:
        return low.pointwise(lambda t: t < upper, value, fold=True)
    if most is not None and most < upper:
        return low.pointwise(lambda t: t >= lower, value, fold=True)
    return low.pointwise(lambda t: (t >= lower) & (t < upper), value, fold=True)
