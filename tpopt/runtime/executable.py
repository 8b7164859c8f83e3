"""One plan bound to one set of sizes. The first run records; later runs use an arena and a flat Python function."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.plan import Plan
from tpopt.ir.aten import flatten_outputs
from tpopt.runtime.outprobe import OutProbe
from tpopt.runtime.packing import Block, Packing, pack
from tpopt.runtime.source import PlanSource

PLACE_FROM_BYTES = 1 << 14
"""Smaller results come from torch's cache of small blocks faster than an ``out=`` call saves (measured: 0.4 µs)."""
ARENAS = 4
"""Arenas kept for concurrent calls; one more call than that allocates its own and drops it."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one bound plan: its arena, the least any packing could need, and the busiest step's owned buffers."""

    arena_bytes: int
    arena_lower_bound: int
    owned_peak_bytes: int


@dataclass(frozen=True)
class _Value:
    """What the recording run saw: ``root`` names the value that owns the storage."""

    root: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    bytes: int
    dense: bool


class Executable:
    """Runs a plan on tensors of fixed sizes. Safe to call from several threads.

    Values are *placed* (an offset in an arena, written through ``out=``) where the operator was seen to write there
    without allocating, and *owned* (allocated by the library, dropped after their last use) otherwise. Nothing that is
    returned shares memory with an arena, an input or a weight.
    """

    def __init__(self, plan: Plan, binder: Binder, sizes: Mapping[str, int], probe: OutProbe) -> None:
        program = plan.program
        self._inputs = tuple(t.name for t in program.inputs)
        self._outputs = tuple(t.name for t in program.outputs)
        self._weights = binder.weights
        self._probe = probe
        self.calls: tuple[Call, ...] = tuple(binder.bind(s.stage, sizes) for s in plan.steps)
        self.memory = Memory(0, 0, 0)
        self.source = ""
        self._run: Any = None
        self._layout: list[tuple[int, _Value]] = []
        self._size = 0
        self._arenas: deque[list[torch.Tensor]] = deque(maxlen=ARENAS)
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Results in the program's order; ``inputs`` in the program's order, of the sizes it was bound for."""
        if self._run is None:
            with self._lock:
                if self._run is None:
                    return self._record(inputs)
        try:
            buffers = self._arenas.pop()
        except IndexError:
            buffers = self._new_arena(inputs[0].device if inputs else torch.device("cpu"))
        try:
            results: list[torch.Tensor] = self._run(*inputs, buffers)
        finally:
            self._arenas.append(buffers)
        return results

    def _new_arena(self, device: torch.device) -> list[torch.Tensor]:
        base = torch.empty(self._size, dtype=torch.uint8, device=device)
        buffers = []
        for offset, value in self._layout:
            part = base[offset : offset + value.bytes].view(value.dtype)
            buffers.append(torch.as_strided(part, value.shape, value.stride))
        return buffers

    def _record(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Runs every call once, watching which storage each value lives in, then lays out the arena."""
        tensors: dict[str, torch.Tensor] = dict(zip(self._inputs, inputs, strict=True))
        owners = {_storage(t): n for n, t in [*self._weights.items(), *tensors.items()]}
        outer = set(owners.values())
        facts: dict[str, _Value] = {}
        placeable: set[str] = set()
        keep: list[torch.Tensor] = []
        for call in self.calls:
            args, kwargs = call.fill(lambda n: tensors[n] if n in tensors else self._weights[n])
            results = flatten_outputs(call.function(*args, **kwargs))
            for name, result in zip(call.outs, results, strict=True):
                fresh = _storage(result) not in owners
                root = owners.setdefault(_storage(result), name)
                tensors[name] = result
                facts[name] = _facts(root, result)
                keep.append(result)
                wide = facts[name].dense and facts[name].bytes >= PLACE_FROM_BYTES
                if (
                    fresh
                    and wide
                    and call.single
                    and call.out_function
                    and self._probe.writes_in_place(call, args, kwargs, result)
                ):
                    placeable.add(name)
        self._finish(facts, placeable, outer)
        return [
            t.clone() if facts.get(n, _OUTER).root in outer or n in outer else t
            for n, t in self._named_outputs(tensors)
        ]

    def _named_outputs(self, tensors: Mapping[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
        return [(n, tensors[n] if n in tensors else self._weights[n]) for n in self._outputs]

    def _finish(self, facts: Mapping[str, _Value], placeable: set[str], outer: set[str]) -> None:
        returned = {facts[n].root for n in self._outputs if n in facts}
        placed = sorted(placeable - returned)
        spans = _lifetimes(self.calls, facts)
        packing = pack([Block(n, *spans[n], facts[n].bytes) for n in placed])
        self._layout = [(packing.offsets[n], facts[n]) for n in placed]
        self._size = packing.size
        self.memory = _memory(packing, facts, spans, set(placed), returned)
        doubled = {k for k, n in enumerate(self._outputs) if n in self._outputs[:k]}
        clone = frozenset(doubled | {k for k, n in enumerate(self._outputs) if n in outer or facts[n].root in outer})
        positions = {n: k for k, n in enumerate(placed)}
        source = PlanSource(self._inputs, self.calls, self._outputs, self._weights, positions, clone)
        self.source = source.text
        self._run = source.compile()


_OUTER = _Value("", (), (), torch.float32, 0, False)


def _storage(tensor: torch.Tensor) -> int:
    """Identity of a tensor's memory; opaque layouts (packed weights) count as their own."""
    storage = tensor.untyped_storage() if tensor.layout is torch.strided else None
    return id(tensor) if storage is None else storage._cdata  # noqa: SLF001 - data_ptr() is 0 for every empty tensor


def _facts(root: str, tensor: torch.Tensor) -> _Value:
    size = tensor.numel() * tensor.element_size()
    dense = tensor.layout is torch.strided and tensor.numel() > 0 and _is_dense(tensor)
    return _Value(root, tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, size, dense)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill one block of memory without gaps or overlap, in any order of the axes."""
    expected = 1
    for stride, extent in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= extent
    return True


def _lifetimes(calls: Sequence[Call], facts: Mapping[str, _Value]) -> dict[str, tuple[int, int]]:
    """First and last step of every storage owner, reads through views included."""
    spans: dict[str, tuple[int, int]] = {}
    for position, call in enumerate(calls):
        for name in (*call.outs, *call.refs()):
            if name in facts:
                root = facts[name].root
                spans[root] = (spans.get(root, (position, position))[0], position)
    return spans


def _memory(
    packing: Packing,
    facts: Mapping[str, _Value],
    spans: Mapping[str, tuple[int, int]],
    placed: set[str],
    returned: set[str],
) -> Memory:
    end = max((last for _, last in spans.values()), default=0)
    owned = [
        Block(n, first, end if n in returned else last, facts[n].bytes)
        for n, (first, last) in spans.items()
        if n in facts and n not in placed
    ]
    return Memory(packing.size, packing.lower_bound, pack(owned).lower_bound)
