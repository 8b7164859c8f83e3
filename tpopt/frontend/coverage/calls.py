"""A call with given arguments, and a module that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
_NUMBERS = (int, float, torch.SymInt, torch.SymFloat)


def call(*args: Any, **kwargs: Any) -> Call:
    """Arguments of one call."""
    return args, kwargs


def tensors_of(call: Call) -> tuple[torch.Tensor, ...]:
    """The tensors among the arguments, in order."""
    return tuple(v for v in pytree.tree_leaves(call) if isinstance(v, torch.Tensor))


class Called(torch.nn.Module):
    """A function of given tensors, its other arguments fixed; a number that it yields multiplies the first."""

    def __init__(self, function: Callable[..., Any], call: Call) -> None:
        super().__init__()
        self.function = function
        leaves, self.spec = pytree.tree_flatten(call)
        self.fixed = [None if isinstance(v, torch.Tensor) else v for v in leaves]
        self.places = [k for k, v in enumerate(leaves) if isinstance(v, torch.Tensor)]

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.fixed)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        result: Any = self.function(*args, **kwargs)
        if isinstance(result, (bool, torch.SymBool)):
            result = torch.sym_ite(result, 1, 0)  # type: ignore[no-untyped-call]
        number = isinstance(result, _NUMBERS)
        return tensors[0] * result if number else result  # so that every result is a tensor
