"""What a compiled plan relies on: inputs of the right kind, weights unchanged, no gradients wanted, as many threads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import torch

from tpopt.errors import GuardFailed, UnsupportedInput
from tpopt.ir import Guard, Index, Symbol, Tensor, guard
from tpopt.ir.aten import torch_dtype
from tpopt.ir.index import evaluate, walk_atoms

_log = logging.getLogger("tpopt")
_VERSION = attrgetter("_version")
"""Torch's only count of writes."""


@dataclass(frozen=True)
class InputGuard:
    """Checks tensors against the declared inputs of a program and reads the run-time sizes off their shapes.

    ``required`` is what those sizes must fulfil besides.
    """

    inputs: tuple[Tensor, ...]
    device: torch.device
    required: Guard = field(default_factory=guard)

    def sizes(self, tensors: Sequence[torch.Tensor]) -> Mapping[str, int] | None:
        """Symbol values, or ``None`` when a shape does not fit (another specialisation may).

        Raises :class:`UnsupportedInput` for a wrong dtype or device, which no specialisation can fix.
        """
        symbolic: list[tuple[Index, int]] = []
        for declared, given in zip(self.inputs, tensors, strict=True):
            self._admit(declared, given)
            if given.dim() != declared.rank:
                return None
            for extent, actual in zip(declared.shape, given.shape, strict=True):
                if not isinstance(extent, int):
                    symbolic.append((extent, actual))
                elif extent != actual:
                    return None
        sizes = _settle(symbolic)
        return sizes if sizes is not None and _holds(self.required, sizes) else None

    def _admit(self, declared: Tensor, given: torch.Tensor) -> None:
        if given.dtype is not torch_dtype(declared.dtype):
            raise UnsupportedInput(
                f"input {declared.name}: expected {declared.dtype}, got {given.dtype}; convert it or compile again"
            )
        if given.device.type != self.device.type:
            raise UnsupportedInput(f"input {declared.name}: compiled for {self.device}, got a tensor on {given.device}")


def _settle(extents: Sequence[tuple[Index, int]]) -> Mapping[str, int] | None:
    """Symbol values at which every extent has its actual size; ``None`` where there are none."""
    found: dict[str, int] = {}
    waiting = list(extents)
    while waiting:
        later = []
        for extent, actual in waiting:
            unknown = [a for a in walk_atoms(extent) if isinstance(a, Symbol) and a.name not in found]
            if not unknown:
                if evaluate(extent, found) != actual:
                    return None
            elif len(unknown) > 1 or not _is_linear(extent, unknown[0]):
                later.append((extent, actual))
            elif not _solve(extent, actual, unknown[0], found):
                return None
        if len(later) == len(waiting):
            return None
        waiting = later
    return found


def _holds(required: Guard, sizes: Mapping[str, int]) -> bool:
    """Whether the sizes are among those the program was made for (a division by zero says no)."""
    try:
        return all(
            evaluate(b.low, sizes) <= evaluate(b.value, sizes) < evaluate(b.high, sizes) for b in required.bounds
        )
    except ZeroDivisionError:
        return False


def _is_linear(extent: Index, symbol: Symbol) -> bool:
    return symbol not in walk_atoms(extent - extent.coefficient(symbol) * symbol)


def _solve(extent: Index, actual: int, symbol: Symbol, found: dict[str, int]) -> bool:
    """Adds the value of the only unknown symbol of a linear extent; False where it is no integer in its range."""
    factor = extent.coefficient(symbol)
    rest = actual - evaluate(extent - factor * symbol, found)
    scale = evaluate(factor, found)
    value, left = divmod(rest, scale) if scale else (0, 1)
    if left or value < symbol.low or (symbol.high is not None and value > symbol.high):
        return False
    found[symbol.name] = value
    return True


@dataclass(frozen=True)
class WeightGuard:
    """Remembers the versions of the tensors that were folded or packed. A change after compilation raises."""

    tensors: tuple[torch.Tensor, ...]
    names: tuple[str, ...]
    versions: tuple[int, ...]

    @classmethod
    def of(cls, weights: Mapping[str, torch.Tensor]) -> WeightGuard:
        """Guards these weights as they are now (tensors made in inference mode have no version and cannot change)."""
        kept = {n: t for n, t in weights.items() if not t.is_inference()}
        return cls(tuple(kept.values()), tuple(kept), tuple(map(_VERSION, kept.values())))

    def check(self) -> None:
        """Raises :class:`GuardFailed` naming the first weight that changed."""
        if tuple(map(_VERSION, self.tensors)) == self.versions:
            return
        for tensor, name, version in zip(self.tensors, self.names, self.versions, strict=True):
            if _VERSION(tensor) != version:
                raise GuardFailed(
                    f"weight {name} changed after compilation (the plan holds folded copies); call tpopt.compile again"
                )


@dataclass
class ThreadGuard:
    """Notices a call under another number of threads than a plan was made for, and says so once.

    Such a call computes the same: library kernels take weights that were packed for any count. Only its speed was not
    measured, so it is no error.
    """

    told: bool = False

    def check(self, threads: int | None) -> None:
        """Compares torch's number of threads with a plan's (``None``: its device does not use them)."""
        if self.told or threads is None:
            return
        now = torch.get_num_threads()
        if now != threads:
            self.told = True
            _log.warning(
                "compiled with torch.get_num_threads() = %d and called with %d: the results agree, but kernels were "
                "chosen and weights packed for %d; call tpopt.compile again, or torch.set_num_threads(%d)",
                threads, now, threads, threads,
            )  # fmt: skip


def refuse_autograd(tensors: Sequence[torch.Tensor]) -> None:
    """Raises :class:`GuardFailed` when a gradient would be lost without a word."""
    if torch.is_grad_enabled():
        for position, tensor in enumerate(tensors):
            if tensor.requires_grad:
                raise GuardFailed(
                    f"input {position} requires a gradient, and a compiled model computes none; "
                    "call it under torch.no_grad(), pass input.detach(), or train with the original model"
                )
