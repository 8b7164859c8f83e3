"""What a generated kernel reads and never changes: which tensors, and their values."""

from __future__ import annotations

from typing import Final

import torch

from tpopt.backend.binding import Binder
from tpopt.ir import Kernel, Tensor, aten
from tpopt.ir.materialize import materialize

CONSTANTS: Final = "constants"
"""The parameter of a generated Kernel that lists the positions of what it reads and never changes."""


def constants_of(stage: Kernel) -> tuple[int, ...]:
    """Positions of the tensors that a kernel reads and whose values never change."""
    return positions(stage, CONSTANTS)


def positions(stage: Kernel, parameter: str) -> tuple[int, ...]:
    """What a parameter of a kernel lists; nothing where it has none."""
    found = dict(stage.parameters).get(parameter, ())
    assert isinstance(found, tuple)
    return tuple(n for n in found if isinstance(n, int))


def value_of(tensor: Tensor, binder: Binder) -> torch.Tensor:
    """A constant: the model's own, or the one that its formula stands for."""
    if tensor.name in binder.weights:
        return binder.weights[tensor.name]
    made: torch.Tensor = torch.from_numpy(materialize(tensor)).to(aten.torch_dtype(tensor.dtype))
    return made
