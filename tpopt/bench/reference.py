"""The float64 reference of a model, and how far an output is from it."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

_WIDE = {torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64}
_WIDE_COMPLEX = {torch.complex32: torch.complex128, torch.complex64: torch.complex128}


def reference_outputs(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[Tensor], str]:
    """Returns the leaves of the model's output, computed in float64, and ``"float64"``.

    A model that does not run in float64 (it makes fp32 constants of its own, say) is its own reference; the text then
    says why.
    """
    try:
        wide = _pytree.tree_map_only(Tensor, _widen, inputs)
        with torch.no_grad():
            return _leaves(in_float64(model)(*wide)), "float64"
    except (RuntimeError, TypeError, ValueError) as error:
        with torch.no_grad():
            return _leaves(model(*inputs)), f"fp32, because it does not run in float64: {str(error).splitlines()[0]}"


def in_float64(model: nn.Module) -> nn.Module:
    """Returns a copy with every real parameter and buffer in float64, and every complex one in complex128."""
    wide = copy.deepcopy(model)
    for part in wide.modules():
        for parameter in part.parameters(recurse=False):
            parameter.data = _widen(parameter.data)
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, _widen(buffer))
    return wide


def l2_rel_err(output: Any, reference: list[Tensor]) -> float:
    """Returns the largest error among the leaves: the L2 distance from the reference, relative to its norm.

    Infinite when the structure, a shape, an integer, or where a value is finite does not agree.
    """
    leaves = _leaves(output)
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in reference]:
        return math.inf
    return max((_leaf_error(leaf, exact) for leaf, exact in zip(leaves, reference, strict=True)), default=0.0)


def _leaf_error(leaf: Tensor, expected: Tensor) -> float:
    if not (expected.is_floating_point() or expected.is_complex()):
        return 0.0 if torch.equal(leaf.to(expected.dtype), expected) else math.inf
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(leaf)):
        return math.inf
    if not torch.allclose(leaf[~finite].to(expected.dtype), expected[~finite], equal_nan=True):
        return math.inf
    exact = expected[finite]
    distance, norm = float((leaf[finite].to(exact.dtype) - exact).norm()), float(exact.norm())
    return distance / norm if norm else distance


def _widen(tensor: Tensor) -> Tensor:
    wide = _WIDE.get(tensor.dtype) or _WIDE_COMPLEX.get(tensor.dtype)
    return tensor if wide is None else tensor.to(wide)


def _leaves(output: Any) -> list[Tensor]:
    """Flattens an output, of torch or of another library, into tensors on the CPU; other leaves are dropped."""
    leaves = (torch.as_tensor(leaf) for leaf in _pytree.tree_leaves(output) if hasattr(leaf, "shape"))
    return [leaf.detach().cpu() for leaf in leaves]
