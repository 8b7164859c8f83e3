"""Values of weights in the field: roots of unity for transforms, random residues that obey the structure elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tpopt.errors import UnsupportedInput
from tpopt.ir.exact.complexes import pair
from tpopt.ir.exact.field import Field
from tpopt.ir.exact.numbers import Numbers
from tpopt.ir.exact.oracle import generator
from tpopt.ir.interpret.bind import plain_array
from tpopt.ir.materialize import is_formula, materialize, toom_cook
from tpopt.ir.program import Array
from tpopt.ir.structure import Structure
from tpopt.ir.terms import Tensor


def weight(
    field: Field, seed: int, tensor: Tensor, shape: Sequence[int], given: Mapping[str, Array], actual: bool
) -> Array:
    """The weight's array in the exact interpreter's storage.

    Integers and bools have their stored values. Floats are random residues drawn from the seed and the name, whatever
    is stored, unless ``actual``: then the stored numbers themselves, as exact fractions.
    """
    if not (tensor.dtype.is_float or tensor.dtype.is_complex):
        return _integers(tensor, given)
    if actual:
        return exactly(field, tensor, plain_array(tensor, _stored(tensor, given)))
    if tensor.structure.kind == "dft":
        return dft(field, tensor.structure)
    if tensor.structure.kind == "toom_cook":
        rows = toom_cook(tensor.structure, tuple(shape))
        return np.array([[field.ratio(v.numerator, v.denominator) for v in row] for row in rows], dtype=np.int64)
    if is_formula(tensor.structure):
        return exactly(field, tensor, materialize(tensor))
    parts = [_obeying(field, tensor.structure, shape, (seed, tensor.name, part)) for part in ("re", "im")]
    return pair(*parts) if tensor.dtype.is_complex else parts[0]


def _stored(tensor: Tensor, given: Mapping[str, Array]) -> Array:
    if tensor.name not in given:
        raise UnsupportedInput(f"weight {tensor.name} ({tensor.dtype}) has no value in the program's constants")
    return given[tensor.name]


def _integers(tensor: Tensor, given: Mapping[str, Array]) -> Array:
    if tensor.name not in given and is_formula(tensor.structure):
        return plain_array(tensor, materialize(tensor).astype(np.int64))
    return plain_array(tensor, _stored(tensor, given))


def exactly(field: Field, tensor: Tensor, values: Array) -> Array:
    """Floating-point numbers as the fractions they are."""
    numbers = Numbers(field)
    if tensor.dtype.is_complex:
        return pair(numbers.encode_all(np.real(values)), numbers.encode_all(np.imag(values)))
    return numbers.encode_all(np.asarray(values, np.float64))


def dft(field: Field, structure: Structure) -> Array:
    """``w**(r*c)`` with a root of unity ``w`` of order n: ``(w + 1/w)/2`` and ``(w - 1/w)/2i`` are its parts."""
    n, rows, columns, sign = (p for p in structure.parameters if isinstance(p, int))
    unit, quarter, modulus = field.root(n), field.root(4), field.modulus
    powers = np.array([pow(unit, k, modulus) for k in range(n)], dtype=np.int64)
    turns = np.outer(np.arange(rows, dtype=np.int64), np.arange(columns, dtype=np.int64)) * sign % n
    there, back = powers[turns], powers[-turns % n]
    half, over = np.asarray(field.ratio(1, 2)), np.asarray(pow(2 * quarter, -1, modulus))
    return pair(field.mul(field.add(there, back), half), field.mul(field.sub(there, back), over))


def _obeying(field: Field, structure: Structure, shape: Sequence[int], key: tuple[object, ...]) -> Array:
    """Random residues with the structure's pattern in the last two axes."""

    def draw(extents: Sequence[int], *more: object) -> Array:
        return generator("weight", *key, *more).integers(0, field.modulus, tuple(extents), dtype=np.int64)

    if len(shape) < 2 or structure.kind in ("dense", "block_sparse"):
        return draw(shape)
    *lead, rows, columns = shape
    r, c = np.arange(rows)[:, None], np.arange(columns)
    match structure.kind:
        case "diagonal":
            return np.where(r == c, draw((*lead, 1, columns)), 0)
        case "symmetric":
            values = draw(shape)
            return np.where(r <= c, values, values.swapaxes(-1, -2))
        case "circulant":
            return draw((*lead, columns))[..., (c - r) % columns]
        case "toeplitz":
            return draw((*lead, rows + columns))[..., c - r + rows]
        case "low_rank":
            (rank,) = (p for p in structure.parameters if isinstance(p, int))
            return field.matmul(draw((*lead, rows, rank), "left"), draw((*lead, rank, columns), "right"))
        case _:
            return _kron(field, [draw(f, n) for n, f in enumerate(_shapes(structure))])


def _shapes(structure: Structure) -> list[tuple[int, ...]]:
    return [tuple(e for e in p if isinstance(e, int)) for p in structure.parameters if isinstance(p, tuple)]


def _kron(field: Field, factors: Sequence[Array]) -> Array:
    total = factors[0]
    for factor in factors[1:]:
        product = field.mul(total[:, None, :, None], factor[None, :, None, :])
        total = product.reshape(total.shape[0] * factor.shape[0], total.shape[1] * factor.shape[1])
    return total
