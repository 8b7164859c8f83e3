"""A call's arguments as a key that is quick to make: two calls with one key need the same plan and the same buffers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from tpopt.errors import UnsupportedInput

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def call_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hashable, list[torch.Tensor]] | None:
    """The key and the tensors in pytree order; ``None`` when an argument is of a kind that only pytree knows.

    The key holds shapes, dtypes, devices, strides where they are not row-major, containers, and plain values with their
    types.
    """
    tensors: list[torch.Tensor] = []
    try:
        return (tuple(_key(a, tensors) for a in args), tuple((k, _key(v, tensors)) for k, v in kwargs.items())), tensors
    except _Unknown:
        return None


class _Unknown(Exception):
    """An argument that this file does not know."""


def _key(value: Any, tensors: list[torch.Tensor]) -> Hashable:
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        if value.layout is not torch.strided:
            raise UnsupportedInput(f"an input has layout {value.layout}; pass a dense tensor")
        stride = None if value.is_contiguous() else value.stride()
        return (value.shape, value.dtype, value.device, stride)
    kind = type(value)
    if kind in (tuple, list):
        return (kind, *[_key(v, tensors) for v in value])
    if kind is dict:
        return (kind, *[(k, _key(v, tensors)) for k, v in value.items()])
    if kind in _PLAIN:
        return (kind, value)
    raise _Unknown
