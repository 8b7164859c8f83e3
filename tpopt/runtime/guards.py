"""What must hold for a compiled plan to run: inputs of the right kind, weights unchanged, no gradients wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tpopt.errors import GuardFailed, UnsupportedInput
from tpopt.ir import Program, Symbol, Tensor, index
from tpopt.ir.aten import torch_dtype
from tpopt.ir.index import evaluate


@dataclass(frozen=True)
class InputGuard:
    """Checks tensors against the declared inputs of a program and reads the run-time sizes off their shapes."""

    inputs: tuple[Tensor, ...]
    device: torch.device

    def sizes(self, tensors: Sequence[torch.Tensor]) -> Mapping[str, int] | None:
        """Symbol values, or ``None`` when a shape does not fit (another specialisation may).

        Raises :class:`UnsupportedInput` for a wrong dtype or device, which no specialisation can fix.
        """
        found: dict[str, int] = {}
        for declared, given in zip(self.inputs, tensors, strict=True):
            if given.dtype is not torch_dtype(declared.dtype):
                raise UnsupportedInput(
                    f"input {declared.name}: expected {declared.dtype}, got {given.dtype}; convert it or compile again"
                )
            if given.device.type != self.device.type:
                raise UnsupportedInput(
                    f"input {declared.name}: compiled for {self.device}, got a tensor on {given.device}"
                )
            if given.dim() != declared.rank:
                return None
            for extent, actual in zip(declared.shape, given.shape, strict=True):
                if isinstance(extent, int):
                    if extent != actual:
                        return None
                    continue
                atoms = index(extent).atoms
                if len(atoms) == 1 and isinstance(atoms[0], Symbol) and index(extent) is index(atoms[0]):
                    symbol = atoms[0]
                    if (
                        found.setdefault(symbol.name, actual) != actual
                        or actual < symbol.low
                        or (symbol.high is not None and actual > symbol.high)
                    ):
                        return None
        return found if self._derived_fit(tensors, found) else None

    def _derived_fit(self, tensors: Sequence[torch.Tensor], found: Mapping[str, int]) -> bool:
        for declared, given in zip(self.inputs, tensors, strict=True):
            for extent, actual in zip(declared.shape, given.shape, strict=True):
                if not isinstance(extent, int):
                    names = {a.name for a in index(extent).atoms if isinstance(a, Symbol)}
                    if not names <= found.keys() or evaluate(extent, found) != actual:
                        return False
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
        return cls(tuple(kept.values()), tuple(kept), tuple(t._version for t in kept.values()))  # noqa: SLF001 - torch's only count of writes

    def check(self) -> None:
        """Raises :class:`GuardFailed` naming the first weight that changed."""
        for tensor, name, version in zip(self.tensors, self.names, self.versions, strict=True):
            if tensor._version != version:  # noqa: SLF001 - as above
                raise GuardFailed(
                    f"weight {name} changed after compilation (the plan holds folded copies); call tpopt.compile again"
                )


def refuse_autograd(tensors: Sequence[torch.Tensor]) -> None:
    """Raises :class:`GuardFailed` when a gradient would be lost without a word."""
    if torch.is_grad_enabled():
        for position, tensor in enumerate(tensors):
            if tensor.requires_grad:
                raise GuardFailed(
                    f"input {position} requires a gradient, and a compiled model computes none; "
                    "call it under torch.no_grad(), pass input.detach(), or train with the original model"
                )


def program_symbols(program: Program) -> tuple[str, ...]:
    """Names of the run-time integers a program depends on."""
    return tuple(s.name for s in program.symbols)
