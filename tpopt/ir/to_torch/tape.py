"""A straight list of torch calls over numbered slots: what one stage becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

_KEPT_ELEMENTS = 1 << 20
"""Index tensors and masks up to this many elements are computed once, when the tape is written, and kept."""


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Tensors made inside belong to no ``torch.func`` transform, inference mode or graph: they may be kept."""
    with torch.inference_mode(mode=False), torch.no_grad(), temporarily_clear_interpreter_stack():
        yield


@dataclass(frozen=True)
class Step:
    """``slots[out] = run(*slots[args])``; ``dead`` are slots that nobody reads afterwards."""

    out: int
    run: Callable[..., Tensor]
    args: tuple[int, ...]
    dead: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A finished tape: call it with the tensors of the program by name."""

    loads: tuple[tuple[int, str], ...]
    constants: tuple[tuple[int, Tensor], ...]
    steps: tuple[Step, ...]
    outs: tuple[int, ...]

    def __call__(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        slots: dict[int, Tensor] = dict(self.constants)
        for slot, name in self.loads:
            slots[slot] = tensors[name]
        for step in self.steps:
            slots[step.out] = step.run(*[slots[a] for a in step.args])
            for slot in step.dead:
                del slots[slot]
        return tuple(slots[o] for o in self.outs)


class Tape:
    """Collects the steps of a :class:`Plan`."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._constants: dict[int, Tensor] = {}
        self._steps: list[Step] = []
        self._next = 0

    def _slot(self) -> int:
        self._next += 1
        return self._next - 1

    def load(self, name: str) -> int:
        """The slot of a tensor of the program."""
        if name not in self._names:
            self._names[name] = self._slot()
        return self._names[name]

    def constant(self, value: Tensor) -> int:
        """A slot that holds the same tensor at every call."""
        slot = self._slot()
        self._constants[slot] = value
        return slot

    def emit(self, run: Callable[..., Tensor], *args: int) -> int:
        """Appends ``run(*args)``."""
        slot = self._slot()
        self._steps.append(Step(slot, run, args))
        return slot

    def fold(self, run: Callable[..., Tensor], *args: int) -> int:
        """``run(*args)``, done now when the arguments are constants and the result is small enough to keep."""
        if all(a in self._constants for a in args):
            value = run(*(self._constants[a] for a in args))
            if value.numel() <= _KEPT_ELEMENTS:
                return self.constant(value)
        return self.emit(run, *args)

    def known(self, slot: int) -> Tensor | None:
        """The value of a constant slot."""
        return self._constants.get(slot)

    def finish(self, outs: Sequence[int]) -> Plan:
        """The plan that yields ``outs``, with every slot released after its last use."""
        live = dict.fromkeys(outs)
        steps: list[Step] = []
        for step in reversed(self._steps):
            if step.out not in live:
                continue
            dead = tuple(a for a in dict.fromkeys(step.args) if a not in live)
            live.update(dict.fromkeys(dead))
            steps.append(Step(step.out, step.run, step.args, dead))
        loads = tuple((s, name) for name, s in self._names.items() if s in live)
        constants = tuple((s, v) for s, v in self._constants.items() if s in live)
        return Plan(loads, constants, tuple(reversed(steps)), tuple(outs))


def unsqueeze_at(missing: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """A view with new axes of extent 1 at the given positions of the result."""

    def run(value: Tensor) -> Tensor:
        for position in missing:
            value = value.unsqueeze(position)
        return value

    return run


def expand_to(sizes: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """A view broadcast to ``sizes``."""
    return lambda value: value.expand(sizes)


def filled(value: bool | int | float | complex, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A 0-d tensor."""
    return torch.full((), value, dtype=dtype, device=device)
