"""Values with named axes, and what every kind of term writes its torch calls with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TypeAlias

import torch

from tpopt.ir.dtypes import DType
from tpopt.ir.index import Iter, walk_atoms
from tpopt.ir.terms import Number, Reduce, Scalar
from tpopt.ir.to_torch.setting import Setting
from tpopt.ir.to_torch.tape import Tape, expand_to, filled, unsqueeze_at
from tpopt.ir.walk import children, own_indices, postorder

Run: TypeAlias = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Named:
    """A slot whose axes are iterators; it is constant along those it lacks."""

    slot: int
    axes: tuple[Iter, ...]


@dataclass(frozen=True)
class Recipe:
    """How a term is computed: ``build`` gets the values of ``needs``."""

    needs: tuple[Scalar, ...]
    build: Callable[[list[Named]], Named]


class Lowering:
    """Writes the terms of one stage onto a tape. Axes are always in one order: loops first, then as they appear.

    ``largest`` is the largest array that a step allocates, in elements; ``inflated`` are slots of views that show
    elements several times, as sliding windows do.
    """

    def __init__(self, tape: Tape, setting: Setting, loops: tuple[Iter, ...]) -> None:
        self.tape = tape
        self.setting = setting
        self.loops = loops
        self.largest = 0
        self.inflated: set[int] = set()
        self.memo: dict[Scalar, Named] = {}
        self._rank: dict[Iter, int] = {it: n for n, it in enumerate(loops)}
        self._free: dict[Scalar, dict[Iter, None]] = {}

    @cached_property
    def device(self) -> torch.device:
        """Where index tensors and literals live."""
        return self.setting.device

    def rank(self, it: Iter) -> int:
        """The position of an axis; a new one comes last."""
        return self._rank.setdefault(it, len(self._rank))

    def order(self, axes: Iterable[Iter]) -> tuple[Iter, ...]:
        """Distinct axes in canonical order."""
        return tuple(sorted(dict.fromkeys(axes), key=self.rank))

    def extents(self, axes: Iterable[Iter]) -> tuple[int, ...]:
        """Extents of axes of a specialised stage."""
        return tuple(self.setting.size(a.extent) for a in axes)

    def free(self, term: Scalar) -> dict[Iter, None]:
        """Iterators that a term depends on, those bound inside it excluded."""
        for part in postorder(term) if term not in self._free else ():
            if part not in self._free:
                found = {a: None for i in own_indices(part) for a in walk_atoms(i) if isinstance(a, Iter)}
                for child in children(part):
                    found.update(self._free[child])
                bound = part.iters if isinstance(part, Reduce) else ()
                self._free[part] = {i: None for i in found if i not in bound}
        return self._free[term]

    def note(self, elements: int) -> None:
        """Remembers the largest array that a step of this stage allocates."""
        self.largest = max(self.largest, elements)

    def emit(self, run: Run, args: Iterable[Named | int], axes: tuple[Iter, ...], *, fold: bool = False) -> Named:
        """A step that allocates its result, which has the given axes."""
        self.note(prod(self.extents(axes)))
        slots = [a.slot if isinstance(a, Named) else a for a in args]
        return Named((self.tape.fold if fold else self.tape.emit)(run, *slots), axes)

    def view(self, run: Run, value: Named | int, axes: tuple[Iter, ...]) -> Named:
        """A step that allocates nothing."""
        old = value.slot if isinstance(value, Named) else value
        new = self.tape.fold(run, old)
        if old in self.inflated:
            self.inflated.add(new)
        return Named(new, axes)

    def materialised(self, value: Named) -> None:
        """Remembers that a step copies a view; it matters where the view repeats elements."""
        if value.slot in self.inflated:
            self.note(prod(self.extents(value.axes)))

    def literal(self, value: Number, dtype: DType) -> Named:
        """A constant without axes."""
        return Named(self.tape.constant(filled(value, self.setting.torch_dtype(dtype), self.device)), ())

    def iota(self, it: Iter) -> Named:
        """The values of an iterator along its own axis."""
        value = torch.arange(self.setting.size(it.extent), device=self.device)
        return Named(self.tape.constant(value), (it,))

    def align(self, value: Named, axes: tuple[Iter, ...]) -> int:
        """The value as an operand of a broadcast over ``axes`` (missing leading axes need nothing)."""
        if not value.axes or value.axes == axes:
            return value.slot
        inner = axes[axes.index(value.axes[0]) :]
        missing = tuple(p for p, a in enumerate(inner) if a not in value.axes)
        return self.view(unsqueeze_at(missing), value, inner).slot if missing else value.slot

    def pointwise(self, run: Run, *values: Named, fold: bool = False) -> Named:
        """``run`` over the union of the operands' axes."""
        axes = self.order(a for v in values for a in v.axes)
        return self.emit(run, [self.align(v, axes) for v in values], axes, fold=fold)

    def full(self, value: Named, axes: tuple[Iter, ...]) -> Named:
        """The value with exactly these axes, broadcast along those it lacks."""
        if value.axes == axes:
            return value
        missing = tuple(p for p, a in enumerate(axes) if a not in value.axes)
        shaped = self.view(unsqueeze_at(missing), value, axes)
        return self.view(expand_to(self.extents(axes)), shaped, axes)

    def permute(self, value: Named, axes: tuple[Iter, ...]) -> Named:
        """The same axes in another order."""
        if value.axes == axes:
            return value
        order = tuple(value.axes.index(a) for a in axes)
        return self.view(lambda t: t.permute(order), value, axes)
