"""Expressions whose best program no operator library has, as plain PyTorch modules without hints.

``tpopt bench --suite derivations`` times them; ``tpopt derive examples/derivations/__init__.py:matrix_chain`` shows a
chain of laws. Each function takes its sizes, so that the same expression can be checked in full at small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from derivations.images import (
    conv_3x3,
    conv_5x5,
    conv_transpose_9x9,
    conv_transpose_k4,
    conv_transpose_pixel,
    dilated_stack,
    separable_branches,
)
from derivations.products import (
    clebsch_gordan,
    cp_spectral,
    gaunt,
    kronecker,
    linear_attention,
    lora,
    matrix_chain,
    pair_features,
    point_features,
    self_product,
    small_sums,
    vector_first,
)
from derivations.sequences import dilated_band, long_convolution
from derivations.spectral import complex_mix, spectral_chain, spectral_corners

__all__ = ["ZOO"]

ZOO: Final[Mapping[str, Callable[[], object]]] = {
    f.__name__: f
    for f in (
        conv_3x3,
        conv_transpose_k4,
        conv_transpose_pixel,
        conv_transpose_9x9,
        conv_5x5,
        separable_branches,
        dilated_stack,
        dilated_band,
        matrix_chain,
        linear_attention,
        kronecker,
        gaunt,
        clebsch_gordan,
        spectral_chain,
        spectral_corners,
        cp_spectral,
        lora,
        complex_mix,
        small_sums,
        vector_first,
        long_convolution,
        self_product,
        point_features,
        pair_features,
    )
}
"""Each expression by name: a function that builds a module and the inputs of one call."""
