"""Values of tensors that are given by a formula, computed when somebody needs the array."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tpopt.errors import InvalidProgram
from tpopt.ir.strassen import TENSORS
from tpopt.ir.structure import Structure
from tpopt.ir.terms import Tensor
from tpopt.ir.toom_cook import Matrix, matrix

Array = npt.NDArray[Any]


def materialize(tensor: Tensor) -> Array:
    """The values of a tensor that its structure determines: ``complex128`` for ``dft``, ``float64`` for the others.

    Double precision whatever the tensor's type: the caller rounds. Raises :class:`InvalidProgram` for a structure that
    only restricts values, as ``symmetric`` does (those tensors are in ``Program.constants``), and for run-time extents.
    """
    structure = tensor.structure
    if not is_formula(structure):
        known = ", ".join(_FORMULAS)
        raise InvalidProgram(
            f"{tensor.name}: structure {structure} does not give the values (these do: {known}); add it to constants"
        )
    shape = tuple(e for e in tensor.shape if isinstance(e, int))
    if len(shape) != tensor.rank:
        raise InvalidProgram(
            f"{tensor!r} has structure {structure} and a run-time extent: it has no values before the program runs"
        )
    return _FORMULAS[structure.kind](structure, shape)


def is_formula(structure: Structure) -> bool:
    """Whether the structure alone determines every value."""
    return structure.kind in _FORMULAS


def roots_of_unity(n: int, sign: int) -> Array:
    """``exp(sign*2πi*k/n)`` for k below n, each within one unit in the last place, quarter turns exact.

    Angles are reduced to the first eighth of the circle in integers, so symmetric roots have equal parts.
    """
    k = np.arange(n, dtype=np.int64) * 8
    octant, rest = k // n, k % n
    mirrored = octant % 2 == 1
    turn = np.where(mirrored, n - rest, rest) * (np.pi / 4) / n
    c, s = np.cos(turn), np.sin(turn)
    near, far = np.where(mirrored, s, c), np.where(mirrored, c, s)
    quadrant = octant // 2
    real = np.choose(quadrant, [near, -far, -near, far])
    imaginary = np.choose(quadrant, [far, near, -far, -near])
    return real + 1j * (sign * imaginary) + 0.0


def _dft(structure: Structure, shape: tuple[int, ...]) -> Array:
    n, rows, columns, sign = structure.parameters
    if not (isinstance(n, int) and isinstance(rows, int) and isinstance(columns, int) and isinstance(sign, int)):
        raise InvalidProgram(f"structure {structure}: the size, rows, columns and sign are integers")
    if shape != (rows, columns):
        raise InvalidProgram(f"structure {structure} belongs to a tensor of shape {(rows, columns)}, not {shape}")
    power = np.outer(np.arange(rows, dtype=np.int64), np.arange(columns, dtype=np.int64)) % n
    values: Array = roots_of_unity(n, sign)[power]
    return values


def _identity(structure: Structure, shape: tuple[int, ...]) -> Array:
    if len(shape) < 2:
        raise InvalidProgram(f"structure {structure} needs two axes, the tensor has shape {shape}")
    return np.broadcast_to(np.eye(shape[-2], shape[-1]), shape).copy()


def _one_hot(structure: Structure, shape: tuple[int, ...]) -> Array:
    columns = [p for p in structure.parameters if isinstance(p, int)]
    if len(shape) != 2 or len(columns) != shape[0]:
        raise InvalidProgram(f"structure {structure} lists {len(columns)} rows, the tensor has shape {shape}")
    values = np.zeros(shape)
    values[np.arange(shape[0]), columns] = 1.0
    return values


def toom_cook(structure: Structure, shape: tuple[int, ...]) -> Matrix:
    """The rational matrix that a structure names."""
    part, m, r = structure.parameters
    if not (isinstance(part, str) and isinstance(m, int) and isinstance(r, int)):
        raise InvalidProgram(f"structure {structure}: the part is a name, m and r are integers")
    try:
        rows = matrix(part, m, r)
    except ValueError as error:
        raise InvalidProgram(f"structure {structure}: {error}") from None
    if shape != (len(rows), len(rows[0])):
        raise InvalidProgram(f"structure {structure} has shape {(len(rows), len(rows[0]))}, the tensor {shape}")
    return rows


def _toom_cook(structure: Structure, shape: tuple[int, ...]) -> Array:
    return np.array([[float(v) for v in row] for row in toom_cook(structure, shape)])


def _strassen(structure: Structure, shape: tuple[int, ...]) -> Array:
    values = TENSORS.get(str(structure.parameters[0])) if len(structure.parameters) == 1 else None
    if values is None:
        raise InvalidProgram(f"structure {structure}: expected one part, of {', '.join(TENSORS)}")
    if shape != values.shape:
        raise InvalidProgram(f"structure {structure} has shape {values.shape}, the tensor {shape}")
    return values.astype(np.float64)


_FORMULAS: MappingProxyType[str, Callable[[Structure, tuple[int, ...]], Array]] = MappingProxyType(
    {
        "dft": _dft,
        "identity": _identity,
        "permutation": _one_hot,
        "one_hot": _one_hot,
        "toom_cook": _toom_cook,
        "strassen": _strassen,
    }
)
