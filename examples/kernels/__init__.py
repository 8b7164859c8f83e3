"""Single operators and short chains as modules: where one kernel is the whole of the time.

``tpopt bench --suite kernels`` runs them; ``--suite kernels-drawn`` runs the same kinds on shapes from seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kernels.convolutions import CONVOLUTIONS
from kernels.matmuls import MATMULS
from kernels.pointwise import POINTWISE
from kernels.rows import ROWS
from kernels.seeding import Example
from kernels.transposes import TRANSPOSES

__all__ = ["ZOO", "Example"]

ZOO: Final[Mapping[str, Callable[[], Example]]] = {
    **POINTWISE,
    **ROWS,
    **CONVOLUTIONS,
    **MATMULS,
    **TRANSPOSES,
}
"""Each case by name: a function that builds the module and the positional inputs of one call."""
