"""One plan bound to one set of sizes. The first run records; later runs use an arena and a flat Python function."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.margins import with_margins
from tpopt.backend.operators import inference
from tpopt.backend.plan import LAYOUT_SUFFIX, Plan
from tpopt.ir import Symbol, Tensor
from tpopt.ir.aten import flatten_outputs
from tpopt.ir.index import walk_atoms
from tpopt.runtime.outprobe import OutProbe
from tpopt.runtime.packing import Block, Packing, pack
from tpopt.runtime.recording import Fact, Recording, record
from tpopt.runtime.source import PlanSource, own_copy

ARENAS = 4
"""Arenas kept for concurrent calls; one more call than that allocates its own and drops it."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one bound plan: its arena, the least any packing could need, and the busiest step's owned buffers."""

    arena_bytes: int
    arena_lower_bound: int
    owned_peak_bytes: int


class Executable:
    """Runs a plan on tensors of fixed sizes and strides. Safe to call from several threads.

    Values are *placed* (an offset in an arena, written through ``out=``) where the operator was seen to write there
    without allocating, and *owned* (allocated by the library, dropped after their last use) otherwise. Nothing that is
    returned shares memory with an arena, an input, a weight or another result.
    """

    def __init__(self, plan: Plan, binder: Binder, sizes: Mapping[str, int], probe: OutProbe) -> None:
        program = plan.program
        self._inputs = tuple(t.name for t in program.inputs)
        self._outputs = tuple(t.name for t in program.outputs)
        self._kept = len(program.outputs) - len(program.aliases)
        self._fixed = frozenset(o.name for s in plan.steps for o in s.stage.outs if has_fixed_shape(o, sizes))
        self._weights = binder.weights
        self._probe = probe
        self.calls: tuple[Call, ...] = tuple(binder.bind(s.stage, sizes) for s in plan.steps)
        self.memory = Memory(0, 0, 0)
        self.source = ""
        self._run: Any = None
        self._generated = False  # no call dispatches through torch, nor records gradients
        self._write: Callable[..., PlanSource] | None = None
        self._layout: list[tuple[int, Fact]] = []
        self._arenas: deque[list[torch.Tensor]] = deque(maxlen=ARENAS)
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Results in the program's order; ``inputs`` in the program's order, of the sizes it was bound for."""
        if self._run is None:
            with self._lock:
                if self._run is None:
                    with inference():
                        return self._record(inputs)
        if self._generated and not self._layout:
            run: Callable[..., list[torch.Tensor]] = self._run
            return run(*inputs, ())
        return self._in_arena(self._run, inputs)

    def stamped(self, clock: Callable[[], int]) -> Callable[[Sequence[torch.Tensor]], list[int]]:
        """What runs the plan and returns what ``clock`` said before the first call and after each one.

        The plan has run before, so that there is an arena.
        """
        if self._write is None:
            raise ValueError("a plan is recorded by its first run, which is still to come")
        stamps: list[int] = []
        run = self._write(after=lambda: stamps.append(clock())).compile()

        def stamp(inputs: Sequence[torch.Tensor]) -> list[int]:
            stamps.clear()
            stamps.append(clock())
            self._in_arena(run, inputs)
            return stamps.copy()

        return stamp

    def _in_arena(self, run: Callable[..., list[torch.Tensor]], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        try:
            buffers = self._arenas.pop()
        except IndexError:
            buffers = self._new_arena()
        try:
            if self._generated:
                return run(*inputs, buffers)
            with inference():
                return run(*inputs, buffers)
        finally:
            self._arenas.append(buffers)

    def _new_arena(self) -> list[torch.Tensor]:
        if not self._layout:
            return []
        base = with_margins(self.memory.arena_bytes, self._layout[0][1].device)
        buffers = []
        for offset, fact in self._layout:
            part = base[offset : offset + fact.bytes].view(fact.dtype)
            buffers.append(torch.as_strided(part, fact.shape, fact.stride))
        return buffers

    def values(self, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Every value of one run by the tensor's name in the program, whatever layout it has here: for diagnosis."""
        found = dict(zip(self._inputs, inputs, strict=True))
        for call in self.calls:
            args, kwargs = call.fill(lambda name: found[name] if name in found else self._weights[name])
            found.update(zip(call.outs, flatten_outputs(call.function(*args, **kwargs)), strict=True))
        return {name.removesuffix(LAYOUT_SUFFIX): value for name, value in found.items()}

    def _record(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Runs every call once, lays out the arena and writes the function that later runs use."""
        named = dict(zip(self._inputs, inputs, strict=True))
        seen, results = record(self.calls, named, self._weights, self._outputs, self._fixed, self._probe)
        returned = {seen.facts[n].root for n in self._outputs if n in seen.facts}
        placed = sorted(n for n in seen.placeable if n not in returned)
        spans = _lifetimes(self.calls, seen)
        packing = pack([Block(n, *spans[n], seen.facts[n].bytes) for n in placed])
        self._layout = [(packing.offsets[n], seen.facts[n]) for n in placed]
        self.memory = _memory(packing, seen, spans, set(placed), returned)
        copies = seen.copies(self._outputs, self._kept)
        positions = {n: k for k, n in enumerate(placed)}
        self._write = partial(
            PlanSource, self._inputs, self.calls, self._outputs, self._weights, positions, copies, seen.direct
        )
        source = self._write()
        self.source = source.text
        self._generated = len(seen.direct) == len(self.calls) and not copies
        self._run = source.compile()
        return [own_copy(t) if k in copies else t for k, t in enumerate(results)]


def has_fixed_shape(tensor: Tensor, sizes: Mapping[str, int]) -> bool:
    """Whether the extents follow from the inputs' sizes; those of a selection by mask depend on data."""
    atoms = [a for extent in tensor.shape if not isinstance(extent, int) for a in walk_atoms(extent)]
    return all(a.name in sizes for a in atoms if isinstance(a, Symbol))


def _lifetimes(calls: Sequence[Call], seen: Recording) -> dict[str, tuple[int, int]]:
    """First and last step of every memory owner, reads through views included."""
    spans: dict[str, tuple[int, int]] = {}
    for position, call in enumerate(calls):
        for name in (*call.outs, *call.refs()):
            if name in seen.facts:
                root = seen.facts[name].root
                spans[root] = (spans.get(root, (position, position))[0], position)
    return spans


def _memory(
    packing: Packing,
    seen: Recording,
    spans: Mapping[str, tuple[int, int]],
    placed: set[str],
    returned: set[str],
) -> Memory:
    end = max((last for _, last in spans.values()), default=0)
    owned = [
        Block(n, first, end if n in returned else last, seen.facts[n].bytes)
        for n, (first, last) in spans.items()
        if n in seen.facts and n not in placed
    ]
    return Memory(packing.size, packing.lower_bound, pack(owned).lower_bound)
