"""Structures for layers: the weight's factors, and the stages that compute with them.

A structure writes ``sum w * data`` as a chain of sums with an intermediate value in between, which is an ordinary
tensor of the program: derivation, library kernels and generated ones see it like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from tpopt.passes.factorize.core_shapes import Spectra
from tpopt.passes.factorize.factorized import Factorized, Task
from tpopt.passes.factorize.kernels import spatial, tucker2
from tpopt.passes.factorize.layers import Layer
from tpopt.passes.factorize.matrices import block_train, low_rank
from tpopt.passes.factorize.projections import Spectrum

Structure: TypeAlias = "Callable[[Task], Factorized | None]"
STRUCTURES: Final[tuple[Structure, ...]] = (low_rank, block_train, tucker2, spatial)


def factorized(layer: Layer, ratios: Sequence[float] = (2.0, 4.0), most_error: float = 1.0) -> Iterator[Factorized]:
    """Every structure of a layer with at most that part of its multiply-adds, ``1 / ratio``, where there is one.

    ``most_error`` is the relative error that the weight may have: spectra alone tell who has more.
    """
    seen: set[str] = set()
    spectra: dict[str, Spectrum | Spectra] = {}
    for ratio in ratios:
        for make in STRUCTURES:
            found = make(Task(layer, ratio, most_error, spectra))
            if found is not None and found.structure not in seen and found.error <= most_error:
                seen.add(found.structure)
                yield found
