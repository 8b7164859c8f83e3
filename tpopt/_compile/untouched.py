"""What calls of a model leave behind, and how a compilation takes it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.runtime.compiled import State


@contextmanager
def same_random_numbers(*inputs: Any) -> Iterator[None]:
    """Gives torch's random generators back as they were, on the CPU and on the devices of these inputs."""
    tensors = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    ordinals = {t.device.index or 0 for t in tensors if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(ordinals)):
        yield


def reseed(device: torch.device, seed: int) -> None:
    """Starts the random numbers that a model draws anew, so that two runs of it can be compared."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def same_values(attempt: Attempt, state: State) -> Iterator[None]:
    """Gives back the values of what calls update: buffers of the user's model, those of the compiled one, inputs."""
    traced = attempt.traced
    assert traced is not None
    leaves = pytree.tree_leaves((attempt.args, attempt.kwargs))
    named = {n: leaf for n, leaf in zip(traced.inputs, leaves, strict=True) if n is not None}
    updated = [named[a.target] for a in traced.original.aliases if a.target in named]
    buffers = [traced.weights[n] for n in traced.states]
    held = [(t, t.detach().clone()) for t in (*updated, *buffers, *state.tensors.values())]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in held:
                tensor.copy_(value)
