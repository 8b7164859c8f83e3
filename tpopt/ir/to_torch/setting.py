"""What one evaluation fixes: element types, device, the values of symbols; and stages specialised to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tpopt.errors import UnsupportedInput
from tpopt.ir import aten
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Atom, Index, IndexLike, Iter, Symbol, evaluate, index, map_atoms, walk_atoms
from tpopt.ir.stages import Compute, Scatter
from tpopt.ir.terms import Guard, Reduce, Scalar, Tensor
from tpopt.ir.walk import guard_indices, map_indices, own_indices, postorder, rebuild

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


@dataclass(frozen=True)
class Setting:
    """``dtype`` replaces every float type; ``fast`` admits library matmul and convolution; ``check`` tests lookups."""

    dtype: torch.dtype | None
    device: torch.device
    symbols: Mapping[str, int]
    fast: bool = True
    check: bool = False

    def torch_dtype(self, dtype: DType) -> torch.dtype:
        """The type in which values of ``dtype`` are computed."""
        if self.dtype is not None and dtype.is_float:
            return self.dtype
        if self.dtype is not None and dtype.is_complex:
            return _COMPLEX.get(self.dtype, torch.complex64)
        return aten.torch_dtype(dtype)

    def size(self, extent: IndexLike) -> int:
        """The value of an extent. Raises :class:`UnsupportedInput` for a symbol that no input binds."""
        if isinstance(extent, int):
            return extent
        known = index(extent).constant
        if known is not None:
            return known
        missing = [a.name for a in walk_atoms(extent) if isinstance(a, Symbol) and a.name not in self.symbols]
        if missing:
            raise UnsupportedInput(
                f"the extent {extent} needs {missing[0]}, which no input binds; pass symbols={{{missing[0]!r}: …}}"
            )
        return evaluate(extent, self.symbols)

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """The extents of a tensor."""
        return tuple(self.size(e) for e in tensor.shape)


def symbols_of(stage: Compute | Scatter) -> tuple[str, ...]:
    """Names of the symbols that a stage mentions, in order of appearance."""
    indices: list[Index] = [index(i.extent) for i in stage.loops]
    values = stage.bodies if isinstance(stage, Compute) else (stage.value,)
    tensors: dict[Tensor, None] = dict.fromkeys(stage.outs)
    if isinstance(stage, Scatter):
        indices += [*stage.at, *(guard_indices(stage.guard) if stage.guard else ())]
    for term in postorder(*values):
        indices += own_indices(term)
        if isinstance(term, Reduce):
            indices += [index(i.extent) for i in term.iters]
    found: dict[str, None] = {}
    for where in indices:
        for atom in walk_atoms(where):
            if isinstance(atom, Symbol):
                found[atom.name] = None
            elif isinstance(atom, Iter):
                found.update({a.name: None for a in walk_atoms(atom.extent) if isinstance(a, Symbol)})
    for tensor in tensors:
        found.update({a.name: None for e in tensor.shape for a in walk_atoms(e) if isinstance(a, Symbol)})
    return tuple(found)


@dataclass(frozen=True)
class Specialised:
    """Loops and terms with plain integer extents; iterators of extent 1 are gone from the terms."""

    loops: tuple[Iter, ...]
    values: tuple[Scalar, ...]
    at: tuple[Index, ...] = ()
    guard: Guard | None = None


def specialise(stage: Compute | Scatter, setting: Setting) -> Specialised:
    """Puts the values of symbols into a stage."""
    values = stage.bodies if isinstance(stage, Compute) else (stage.value,)
    bound: dict[Iter, None] = dict.fromkeys(stage.loops)
    atoms: dict[Atom, None] = {}
    at, guard = (stage.at, stage.guard) if isinstance(stage, Scatter) else ((), None)
    indices = [*at, *(guard_indices(guard) if guard else ())]
    for term in postorder(*values):
        indices += own_indices(term)
        if isinstance(term, Reduce):
            bound.update(dict.fromkeys(term.iters))
    for where in indices:
        atoms.update(dict.fromkeys(a for a in walk_atoms(where) if isinstance(a, Symbol)))
    renamed = {i: Iter(i.name, setting.size(i.extent)) for i in bound}
    mapping: dict[Atom, IndexLike] = {a: setting.size(index(a)) for a in atoms}
    mapping.update({i: 0 if n.extent == 1 else n for i, n in renamed.items() if n is not i or n.extent == 1})
    loops = tuple(renamed[i] for i in stage.loops)
    if not mapping:
        return Specialised(loops, values, at, guard)
    return Specialised(
        loops,
        tuple(_bind(replace_atoms(v, mapping), renamed) for v in values),
        tuple(_substitute(i, mapping) for i in at),
        None if guard is None else replace_in_guard(guard, mapping),
    )


def _bind(root: Scalar, renamed: Mapping[Iter, Iter]) -> Scalar:
    def one(term: Scalar) -> Scalar:
        if not isinstance(term, Reduce):
            return term
        kept = tuple(renamed[i] for i in term.iters if renamed[i].extent != 1)
        return term.bodies[term.pick] if not kept else Reduce(term.monoid, kept, term.bodies, term.pick)

    return rebuild(root, one)


def replace_atoms(root: Scalar, mapping: Mapping[Atom, IndexLike]) -> Scalar:
    """Replaces iterators and symbols in every index of a term; guards that become decided disappear."""
    return map_indices(root, lambda where: _substitute(where, mapping))


def replace_in_guard(guard: Guard, mapping: Mapping[Atom, IndexLike]) -> Guard:
    """The same for a guard."""
    from tpopt.ir.build import guard as build

    def change(where: Index) -> Index:
        return _substitute(where, mapping)

    return build(*((change(b.low), change(b.value), change(b.high)) for b in guard.bounds))


def _substitute(where: Index, mapping: Mapping[Atom, IndexLike]) -> Index:
    return map_atoms(where, mapping.get)


def bind_symbols(
    tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], given: Mapping[str, int]
) -> dict[str, int]:
    """Values of symbols from actual shapes.

    Raises :class:`UnsupportedInput` naming the tensor and the axis where a shape contradicts its declaration.
    """
    known = dict(given)
    pending = [
        (tensor, axis, index(extent), shape[axis])
        for tensor, shape in zip(tensors, shapes, strict=True)
        for axis, extent in enumerate(tensor.shape)
    ]
    while True:
        left = []
        for item in pending:
            tensor, axis, extent, actual = item
            free = [a for a in walk_atoms(extent) if isinstance(a, Symbol) and a.name not in known]
            if not free:
                _agree(tensor, axis, evaluate(extent, known), actual)
            elif not _solve(extent, actual, known):
                left.append(item)
        if not left or len(left) == len(pending):
            return known
        pending = left


def _solve(extent: Index, actual: int, known: dict[str, int]) -> bool:
    """Binds the one unknown symbol of ``coefficient * symbol + rest == actual``."""
    unknown = [a for a in extent.atoms if not (isinstance(a, Symbol) and a.name in known)]
    if len(unknown) != 1 or not isinstance(unknown[0], Symbol):
        return False
    symbol = unknown[0]
    at_zero, at_one = evaluate(extent, {**known, symbol.name: 0}), evaluate(extent, {**known, symbol.name: 1})
    step, rest = at_one - at_zero, actual - at_zero
    if step == 0 or rest % step or any(atoms.count(symbol) > 1 for _, atoms in extent.terms):
        return False
    value = rest // step
    if value < symbol.low or (symbol.high is not None and value > symbol.high):
        raise UnsupportedInput(f"symbol {symbol.name} = {value} is outside its range {symbol!r}")
    known[symbol.name] = value
    return True


def _agree(tensor: Tensor, axis: int, expected: int, actual: int) -> None:
    if expected != actual:
        raise UnsupportedInput(
            f"input {tensor.name}: axis {axis} is {actual}, expected {tensor.shape[axis]} = {expected}"
        )
