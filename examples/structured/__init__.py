"""Models whose algebra has a structure, each from its paper's own formula, as the best known chain of products.

``tpopt bench --suite structured`` times them. Each function takes its sizes, so that the same model can be checked in
full at small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from structured.attention import axial_kernel, galerkin_attention, kronecker_attention, transform_once
from structured.equivariant import (
    gaunt_product,
    orthogonal_layer,
    permutation_layer,
    so2_convolution,
    tensornet_product,
)
from structured.layers import bilinear_mlp, hyperbolic_linear, tensor_train_layer

__all__ = ["ZOO"]

ZOO: Final[Mapping[str, Callable[[], object]]] = {
    f.__name__: f
    for f in (
        gaunt_product,
        so2_convolution,
        orthogonal_layer,
        permutation_layer,
        tensornet_product,
        kronecker_attention,
        galerkin_attention,
        axial_kernel,
        transform_once,
        bilinear_mlp,
        tensor_train_layer,
        hyperbolic_linear,
    )
}
"""Each model by name: a function that builds a module and the inputs of one call."""
