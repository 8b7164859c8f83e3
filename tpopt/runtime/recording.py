"""The first run of a bound plan: every call once, watching which memory each value lives in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from tpopt.backend.call import Call
from tpopt.ir.aten import flatten_outputs
from tpopt.runtime.outprobe import OutProbe
from tpopt.runtime.source import last_uses

PLACE_FROM_BYTES = 1 << 14
"""Smaller results come from torch's cache of small blocks faster than an ``out=`` call saves (measured: 0.4 µs)."""


@dataclass(frozen=True)
class Fact:
    """One value as it was seen: ``root`` names the value that owns its memory."""

    root: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    bytes: int


@dataclass
class Recording:
    """What a run showed: a fact for each value that a call made, and those that ``out=`` can place in an arena.

    ``outer`` are the roots that belong to somebody else: inputs and weights. ``direct`` has, for the calls that write
    where they are told, the function for arguments laid out as they were.
    """

    outer: frozenset[str]
    facts: dict[str, Fact] = field(default_factory=dict)
    placeable: list[str] = field(default_factory=list)
    direct: dict[int, Callable[..., None]] = field(default_factory=dict)

    def copies(self, outputs: Sequence[str], kept: int) -> frozenset[int]:
        """Positions of outputs to copy: what lies in memory of somebody else.

        Of the first ``kept``, which are returned, also what lies in another one's memory, or not in row-major order:
        a model may ask for that order at its end, and the algebra does not say so.
        """
        seen: set[str] = set()
        found = []
        for position, name in enumerate(outputs):
            fact = self.facts.get(name)
            root = name if fact is None else fact.root
            ordered = fact is None or _is_row_major(fact)
            if root in self.outer or (position < kept and (root in seen or not ordered)):
                found.append(position)
            seen.add(root)
        return frozenset(found)


def record(
    calls: Sequence[Call],
    inputs: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    fixed: Collection[str],
    probe: OutProbe,
) -> tuple[Recording, list[torch.Tensor]]:
    """Runs the calls; values are dropped after their last use. Returns what was seen, and the outputs as they came.

    ``fixed`` names the values whose shape does not depend on data: only those may get a place of that shape.
    """
    seen = Recording(frozenset((*weights, *inputs)))
    tensors = dict(inputs)
    roots = {_memory_of(t): n for n, t in [*weights.items(), *inputs.items()]}
    living: dict[str, set[str]] = {}
    last = last_uses(calls, outputs)
    for position, call in enumerate(calls):
        args, kwargs = call.fill(lambda n: tensors[n] if n in tensors else weights[n])
        results = flatten_outputs(call.function(*args, **kwargs))
        if call.into is not None:
            seen.direct[position] = call.into.at(args)
        for name, result in zip(call.outs, results, strict=True):
            fresh = _memory_of(result) not in roots
            root = roots.setdefault(_memory_of(result), name)
            living.setdefault(root, set()).add(name)
            tensors[name], seen.facts[name] = result, _fact(root, result)
            if not fresh or name not in fixed:
                continue
            possible = _may_be_placed(call, seen.facts[name])
            if call.into is not None or (possible and probe.writes_in_place(call, args, kwargs, result)):
                seen.placeable.append(name)
        for name in dict.fromkeys((*call.refs(), *call.outs)):
            if name in seen.facts and last[name] <= position:
                _drop(name, tensors, roots, living[seen.facts[name].root], seen.outer)
    return seen, [tensors[n] if n in tensors else weights[n] for n in outputs]


def _drop(
    name: str,
    tensors: dict[str, torch.Tensor],
    roots: dict[int, str],
    living: set[str],
    outer: frozenset[str],
) -> None:
    """Forgets a value, and with the last of those that share its memory the memory, whose address may come again."""
    gone = tensors.pop(name)
    living.discard(name)
    if not living and roots[_memory_of(gone)] not in outer:
        del roots[_memory_of(gone)]


def _may_be_placed(call: Call, fact: Fact) -> bool:
    return call.single and call.out_function is not None and fact.bytes >= PLACE_FROM_BYTES and _is_dense(fact)


def _memory_of(tensor: torch.Tensor) -> int:
    """Identity of a tensor's memory; opaque layouts (packed weights) count as their own."""
    storage = tensor.untyped_storage() if tensor.layout is torch.strided else None
    return id(tensor) if storage is None else storage._cdata  # noqa: SLF001 - data_ptr() is 0 for every empty tensor


def _fact(root: str, tensor: torch.Tensor) -> Fact:
    strides = tuple(tensor.stride()) if tensor.layout is torch.strided else ()
    size = tensor.numel() * tensor.element_size()
    return Fact(root, tuple(tensor.shape), strides, tensor.dtype, tensor.device, size)


def _is_row_major(fact: Fact) -> bool:
    """Whether a value is contiguous; nothing is said of what has no strides."""
    if len(fact.stride) != len(fact.shape) or 0 in fact.shape:
        return True
    expected = 1
    for stride, extent in zip(reversed(fact.stride), reversed(fact.shape), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def _is_dense(fact: Fact) -> bool:
    """Whether the elements fill one block of memory without gaps or overlap, in any order of the axes."""
    if len(fact.stride) != len(fact.shape):
        return False
    expected = 1
    for stride, extent in sorted((s, n) for s, n in zip(fact.stride, fact.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= extent
    return True
