"""Sets of inputs, and runs of a callable that may do anything with what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.errors import UnsupportedInput
from tpopt.ir.program import Program
from tpopt.verify.inputs import generate_inputs

ADVERSARIAL = ("large", "small", "zeros", "ones", "special")
"""Kinds of inputs that compare with the original's own behaviour, more loosely than ordinary ones."""


@dataclass(frozen=True)
class InputSet:
    """A named set of inputs; :meth:`make` gives fresh ones with the same values and strides each time."""

    label: str
    adversarial: bool
    make: Callable[[], list[torch.Tensor]]


def input_sets(
    program: Program, example: Sequence[torch.Tensor], sizes: Mapping[str, int], seed: int, kinds: Sequence[str]
) -> list[InputSet]:
    """The example, two random seeds, then the other kinds."""
    sets = [InputSet("example", False, lambda: [duplicate(t) for t in example])]
    if not program.inputs:
        return sets
    wanted = [("normal", seed), ("normal", seed + 1)] if "normal" in kinds else []
    wanted += [(kind, seed) for kind in kinds if kind != "normal"]
    for kind, own in wanted:
        label = f"{kind} seed {own}" if kind == "normal" else kind
        sets.append(InputSet(label, kind in ADVERSARIAL, _maker(program, own, sizes, kind, example)))
    return sets


def sample_sets(samples: Sequence[Sequence[torch.Tensor]]) -> list[InputSet]:
    """Inputs that are given: the example first, then others like it."""
    labels = ["example", *(f"sample {n}" for n in range(1, len(samples)))]
    return [
        InputSet(label, False, lambda own=own: [duplicate(t) for t in own])  # type: ignore[misc]
        for label, own in zip(labels, samples, strict=True)
    ]


def _maker(
    program: Program, seed: int, sizes: Mapping[str, int], kind: str, example: Sequence[torch.Tensor]
) -> Callable[[], list[torch.Tensor]]:
    def make() -> list[torch.Tensor]:
        made = generate_inputs(program, seed, sizes, kind, like=example)
        return [m.to(t.device) for m, t in zip(made, example, strict=True)]

    return make


def duplicate(value: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides (dense where elements share memory)."""
    value = value.detach()
    if any(s == 0 for s in value.stride()) or value.is_conj() or value.is_neg():
        return value.clone()
    copy = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return copy.copy_(value)


def run(
    call: Callable[..., Any], inputs: Sequence[torch.Tensor], count: int, kept: Sequence[int]
) -> list[torch.Tensor]:
    """The tensors among a callable's results: ``count`` of them, or only the ``kept`` ones (no overwritten state).

    Raises :class:`UnsupportedInput` when it returns another number of them.
    """
    with torch.no_grad():
        result = call(*inputs)
    found = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    if len(found) == count:
        return [found[k] for k in kept]
    if len(found) == len(kept):
        return found
    raise UnsupportedInput(f"a callable to verify returned {len(found)} tensors; the program has {count} outputs")


def altered(inputs: Sequence[torch.Tensor], fresh: Sequence[torch.Tensor]) -> list[int]:
    """Positions of inputs that no longer hold what they held."""
    return [n for n, (a, b) in enumerate(zip(inputs, fresh, strict=True)) if not same(a, b)]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in every element, NaN counted as equal to itself."""
    return bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124 (only NaN differs from itself)
