"""The inputs on which errors are measured: the example, and the calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils import _pytree as pytree

from tpopt._compile.metric import split_labels
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.runtime.compiled import State

MOST: Final = 4
"""Batches of calibration data that are run besides the example; each holds all values of the model once."""


def samples_of(attempt: Attempt, example: Mapping[str, torch.Tensor], state: State) -> list[dict[str, torch.Tensor]]:
    """Values of the program's inputs and states for each sample; calibration batches of other shapes are left out.

    Raises :class:`UsageError` where the calibration data fits the model's inputs at no batch.
    """
    states = {n: t.clone() for n, t in state.tensors.items()}
    found = [{**example, **states}]
    batches = [split_labels(batch)[0] for batch in islice(iter(attempt.calibration), MOST)]
    for given in batches:
        values = _named(example, given)
        if values is not None:
            found.append({**values, **states})
    if batches and len(found) == 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in example.values())
        raise UsageError(
            f"calibration: no batch has the inputs of the example, {shapes}; give batches of that shape "
            "(labels, if any, come last)"
        )
    return found


def _named(example: Mapping[str, torch.Tensor], given: Iterable[Any]) -> dict[str, torch.Tensor] | None:
    leaves = [leaf.detach() for leaf in pytree.tree_leaves(tuple(given)) if isinstance(leaf, torch.Tensor)]
    if [(t.shape, t.dtype) for t in leaves] != [(t.shape, t.dtype) for t in example.values()]:
        return None
    return dict(zip(example, leaves, strict=True))
