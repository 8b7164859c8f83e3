"""A call's arguments as a key that is quick to make: two calls with one key need the same plan and the same buffers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.errors import UnsupportedInput

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_STRIDED = torch.strided


def call_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hashable, list[torch.Tensor]]:
    """The key (``None``: an argument is of a kind that only pytree knows), and the tensors in pytree order.

    The key holds shapes, dtypes, devices, strides where they are not row-major, containers, and plain values with their
    types.
    """
    tensors: list[torch.Tensor] = []
    try:
        positional = _keys(args, tensors)
        return ((positional, tuple(kwargs), _keys(kwargs.values(), tensors)) if kwargs else positional), tensors
    except _Unknown:
        return None, tensors_of(args, kwargs)


def tensors_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors among a call's arguments, in pytree order."""
    if not kwargs and all(isinstance(a, torch.Tensor) for a in args):
        return list(args)
    return [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]


class _Unknown(Exception):
    """An argument that this file does not know."""


def _keys(values: Iterable[Any], tensors: list[torch.Tensor]) -> tuple[Hashable, ...]:
    """A key for each value. One loop, without a call for each tensor: this runs before every call of a model."""
    keys: list[Hashable] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.layout is not _STRIDED:
                raise UnsupportedInput(f"an input has layout {value.layout}; pass a dense tensor")
            tensors.append(value)
            keys.append((value.shape, value.dtype, value.device, value.is_contiguous() or value.stride()))
            continue
        kind = type(value)
        if kind in (tuple, list):
            keys.append((kind, _keys(value, tensors)))
        elif kind is dict:
            keys.append((kind, tuple(value), _keys(value.values(), tensors)))
        elif kind in _PLAIN:
            keys.append((kind, value))
        else:
            raise _Unknown
    return tuple(keys)
