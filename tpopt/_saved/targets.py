"""A saved model as what commands take: a module, and inputs to run it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt._saved.load import SavedModel, read
from tpopt._saved.module import SavedModule


def saved_target(path: Path) -> tuple[SavedModule, tuple[Any, ...], dict[str, Any]]:
    """The model as it was before it was compiled, positional and keyword inputs. Raises as :func:`tpopt.load` does."""
    saved = read(path)
    args, kwargs = arguments(saved, example_tensors(saved))
    return saved.module().materialize(), args, kwargs


def example_tensors(saved: SavedModel, seed: int = 0) -> list[torch.Tensor]:
    """The example inputs of the file, or random ones that the program can take."""
    found = saved.examples()
    if found is not None:
        return found
    from tpopt.verify.inputs import generate_inputs

    made = generate_inputs(saved.algebra, seed, saved.sizes, "normal", None)
    return [t.to(saved.device) for t in made[: len(saved.guard.inputs)]]


def arguments(saved: SavedModel, tensors: list[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Tensors, in the program's order, as the arguments of a call."""
    signature = saved.signature
    given = iter(tensors)
    leaves = [next(given) if n is not None else f for n, f in zip(signature.leaves, signature.fixed, strict=True)]
    args, kwargs = pytree.tree_unflatten(leaves, signature.in_spec)
    return tuple(args), dict(kwargs)
