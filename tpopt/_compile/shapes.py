"""Which dimensions became dynamic: those whose size differs between two calls."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import Dim
from torch.utils import _pytree as pytree


def dynamic_from(args: Any, kwargs: Any, new_args: Any, new_kwargs: Any, model: torch.nn.Module) -> Any:
    """A ``dynamic_shapes`` for export on the new inputs, or ``None`` when the two calls differ in structure."""
    old, old_spec = pytree.tree_flatten((args, kwargs))
    new, spec = pytree.tree_flatten((new_args, new_kwargs))
    if old_spec != spec:
        return None
    collection: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    changed = False
    for a, b in zip(old, new, strict=True):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.dim() == b.dim():
            axes = {k: Dim.AUTO for k, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n}
            if axes:
                collection[b] = axes
                changed = True
    return collection.dynamic_shapes(model, new_args, new_kwargs) if changed else None
