"""Inputs to arrays of a number system, and symbols solved from the inputs' shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tpopt.errors import UnsupportedInput
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, Size, Symbol, index, walk_atoms
from tpopt.ir.interpret.affine import number
from tpopt.ir.interpret.reals import plain_storage
from tpopt.ir.interpret.rounding import bf16_values
from tpopt.ir.program import Array, Program
from tpopt.ir.terms import Tensor


def by_name(program: Program, inputs: Sequence[Array] | Mapping[str, Array]) -> dict[str, Array]:
    """Inputs by tensor name. Raises :class:`UnsupportedInput` naming what is missing or unknown."""
    names = [t.name for t in program.inputs]
    if not isinstance(inputs, Mapping):
        if len(inputs) != len(names):
            raise UnsupportedInput(
                f"program {program.name} takes {len(names)} inputs ({', '.join(names)}); got {len(inputs)}"
            )
        return dict(zip(names, inputs, strict=True))
    missing, unknown = [n for n in names if n not in inputs], [n for n in inputs if n not in names]
    if missing or unknown:
        raise UnsupportedInput(
            f"inputs of {program.name}: missing {missing}, unknown {unknown}; it takes {', '.join(names)}"
        )
    return {n: inputs[n] for n in names}


def plain_array(tensor: Tensor, value: Array) -> Array:
    """An input or weight as float64, complex128, an integer of its width or bool. bf16 may come as ``uint16`` bits."""
    array = np.asarray(value)
    kind = array.dtype.kind
    if tensor.dtype is DType.BF16 and array.dtype == np.uint16:
        return bf16_values(array).astype(np.float64)
    if tensor.dtype.is_complex and kind in "fciub":
        return array.astype(np.complex128, copy=False)
    if tensor.dtype.is_float and kind in "fiub":
        return array.astype(np.float64, copy=False)
    if kind == "b" or (tensor.dtype.is_integer and kind in "iu"):
        target = plain_storage(tensor.dtype)
        converted = array.astype(target, copy=False)
        if (tensor.dtype is DType.BOOL) == (kind == "b") and (converted == array).all():
            return converted
    raise UnsupportedInput(f"{tensor.name}: expected {tensor.dtype} values, got a {array.dtype} array")


def narrow_array(tensor: Tensor, value: Array) -> Array:
    """:func:`plain_array`, but floats stay in the narrower type they come in: whoever reads them converts."""
    array = np.asarray(value)
    if tensor.dtype is DType.BF16 and array.dtype == np.uint16:
        return bf16_values(array)
    narrow = tensor.dtype.is_float and array.dtype.kind == "f" and array.dtype.itemsize < 8
    return array if narrow else plain_array(tensor, array)


def bind_symbols(shapes: Iterable[tuple[Tensor, Sequence[int]]], known: Mapping[str, int]) -> dict[str, int]:
    """Symbol values from shapes: each round solves extents that are linear in one unknown symbol.

    Raises :class:`UnsupportedInput` naming the tensor and the axis for a wrong rank, an extent that no value gives,
    and a value outside the symbol's range.
    """
    values = dict(known)
    pending: list[tuple[Tensor, int, Size, int]] = []
    for tensor, shape in shapes:
        if len(shape) != tensor.rank:
            raise UnsupportedInput(f"{tensor.name}: expected {tensor.rank} axes {tensor!r}, got shape {tuple(shape)}")
        pending += [(tensor, axis, extent, shape[axis]) for axis, extent in enumerate(tensor.shape)]
    while pending:
        later = [entry for entry in pending if not _settle(entry, values)]
        if len(later) == len(pending):
            return values
        pending = later
    return values


def _settle(entry: tuple[Tensor, int, Size, int], values: dict[str, int]) -> bool:
    """Checks an extent whose symbols are known, or solves it for its only unknown one; whether it is dealt with."""
    tensor, axis, extent, actual = entry
    where = index(extent)
    unknown = [a for a in walk_atoms(where) if isinstance(a, Symbol) and a.name not in values]
    if not unknown:
        expected = number(where, values)
        if expected != actual:
            raise UnsupportedInput(
                f"{tensor.name}, axis {axis}: expected extent {_spell(where, expected)}, got {actual}"
            )
        return True
    symbol = unknown[0]
    if len(unknown) > 1 or not all(atoms.count(symbol) <= 1 for _, atoms in where.terms) or symbol not in where.atoms:
        return False
    slope = number(where.coefficient(symbol), values)
    rest = number(where - where.coefficient(symbol) * symbol, values)
    if slope == 0:
        return False
    value, left = divmod(actual - rest, slope)
    if left or value < symbol.low or (symbol.high is not None and value > symbol.high):
        raise UnsupportedInput(f"{tensor.name}, axis {axis}: extent {actual} is not {where.text} for {symbol!r}")
    values[symbol.name] = value
    return True


def _spell(where: Index, value: int) -> str:
    return str(value) if where.constant is not None else f"{where.text} = {value}"
