"""How much each output of a program moves when one of its values, or one of its constants, is replaced.

Measured, not modelled: the original operators run once; then, for each replacement, those alone that depend on it.
A value that only a rewritten program has (a joined product, a folded weight) is reached through the kernels that
compute it from values of the original, or values of the original from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.operators import inference
from tpopt.errors import TpoptError
from tpopt.ir import Program, Stage, Tensor
from tpopt.ir.aten import flatten_outputs
from tpopt.ir.walk import map_stage_tensors, stage_reads

DEPTH = 3
"""Kernels one after the other that lead from values of the original to one that it does not have."""

Values = dict[str, torch.Tensor]
Change = Callable[[torch.Tensor], torch.Tensor]
"""What becomes of a tensor; the result has its shape and type."""


@dataclass
class OutputErrors:
    """Squared relative L2 errors of a program's outputs, one for each output that is a float, the mean over samples.

    Args:
        original: the program of the model's own operators.
        kernels: stages over the same tensors, exact, that compute or read what the original does not have.
        binder: makes calls of stages.
        sizes: values of the symbols.
        samples: values of the inputs and the states, by name; each is one run.
        deadline: on :func:`time.perf_counter`'s clock; later replacements are not run (:meth:`of` returns ``None``).
    """

    original: Program
    kernels: Sequence[Stage]
    binder: Binder
    sizes: Mapping[str, int]
    samples: Sequence[Values]
    deadline: float = float("inf")
    _calls: list[Call] = field(default_factory=list)
    _runs: list[Values] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Runs the original on every sample."""
        self._calls = [self.binder.bind(s, self.sizes) for s in self.original.stages]
        self._makers: dict[str, Stage] = {}
        self.kernels, given = (), self.kernels
        self.extend(given)
        for sample in self.samples:
            values = dict(sample)
            for call in self._calls:
                values.update(self._run(call, values))
            self._runs.append(values)

    def extend(self, kernels: Sequence[Stage]) -> None:
        """Takes further kernels into account."""
        self.kernels = (*self.kernels, *kernels)
        for stage in kernels:
            for out in stage.outs:
                self._makers.setdefault(out.name, stage)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs whose errors are measured."""
        names = dict.fromkeys(t.name for t in self.original.outputs)
        return tuple(n for n in names if self._runs and _is_float(self._runs[0].get(n)))

    def of(self, tensor: Tensor, change: Change) -> tuple[float, ...] | None:
        """The errors when ``tensor``, a value or a constant, is replaced; ``None`` where that cannot be run."""
        found = []
        for values in self._runs:
            if time.perf_counter() > self.deadline:
                return None
            moved = self._moved(tensor, change, values)
            if moved is None:
                return None
            found.append(self._errors(self._through(moved, values), values))
        return tuple(sum(column) / len(found) for column in zip(*found, strict=True)) if found else None

    def values(self, tensor: Tensor) -> list[torch.Tensor]:
        """What a value is on each sample; shorter where that cannot be run."""
        found = (self._value(tensor.name, run, DEPTH) for run in self._runs)
        return [v.detach() for v in found if v is not None]

    def _moved(self, tensor: Tensor, change: Change, values: Values) -> Values | None:
        """What the replacement makes of the values next to it that the original has too."""
        known = values.get(tensor.name)
        if known is not None:
            return {tensor.name: change(known)}
        weight = self.binder.weights.get(tensor.name)
        if weight is not None and tensor in self.original.weights:
            return {tensor.name: change(weight.detach())}
        if weight is None:
            weight = self._value(tensor.name, values, DEPTH)
        if weight is None:
            return None
        moved, still = (self._across(tensor, t, values) for t in (change(weight.detach()), weight.detach()))
        # kernels of other forms may compute something else than the original: what the change alone does is added
        return {n: values[n] + (moved[n] - still[n]) for n in moved if n in still} or None

    def _across(self, tensor: Tensor, value: torch.Tensor, values: Values) -> Values:
        """Values of the original that kernels compute from ``tensor``."""
        changed = Tensor(f"{tensor.name}.changed", tensor.shape, tensor.dtype, tensor.layout)
        binder = Binder({**self.binder.weights, changed.name: value})
        found: Values = {}
        for stage in self.kernels:
            if tensor not in stage_reads(stage) or any(o.name in found for o in stage.outs):
                continue
            if not all(o.name in values for o in stage.outs):
                continue
            needed = [t for t in stage_reads(stage) if t is not tensor]
            others = {t.name: self._value(t.name, values, DEPTH) for t in needed}
            if any(v is None for v in others.values()):
                continue
            try:
                call = binder.bind(map_stage_tensors(stage, lambda t: changed if t is tensor else t), self.sizes)
                found.update(self._run(call, {**values, **others, changed.name: value}))  # type: ignore[dict-item]
            except (TpoptError, RuntimeError, KeyError):
                continue
        return found

    def _value(self, name: str, values: Values, depth: int) -> torch.Tensor | None:
        """A value, or a constant; one that the original does not have is computed from those that it has."""
        known = values.get(name, self.binder.weights.get(name))
        stage = self._makers.get(name)
        if known is not None or stage is None or not depth:
            return known
        read = {t.name: self._value(t.name, values, depth - 1) for t in stage_reads(stage)}
        if any(v is None for v in read.values()):
            return None
        try:
            return self._run(self.binder.bind(stage, self.sizes), {**values, **read}).get(name)  # type: ignore[dict-item]
        except (TpoptError, RuntimeError, KeyError):
            return None

    def _through(self, moved: Values, values: Values) -> Values:
        """What the original computes from moved values: everything that differs."""
        dirty = dict(moved)
        for call in self._calls:
            if any(o in moved for o in call.outs) or not any(r in dirty for r in call.refs()):
                continue
            dirty.update(self._run(call, values, dirty))
        return dirty

    def _run(self, call: Call, values: Values, first: Mapping[str, torch.Tensor] | None = None) -> Values:
        def value(name: str) -> torch.Tensor:
            if first is not None and name in first:
                return first[name]
            return values[name] if name in values else self.binder.weights[name]

        with inference():
            args, kwargs = call.fill(value)
            return dict(zip(call.outs, flatten_outputs(call.function(*args, **kwargs)), strict=True))

    def _errors(self, moved: Values, values: Values) -> tuple[float, ...]:
        return tuple(_squared(moved[n], values[n]) if n in moved else 0.0 for n in self.outputs)


def _squared(value: torch.Tensor, exact: torch.Tensor) -> float:
    """The square of the relative L2 error, over what was finite; infinite where that is so no longer."""
    finite = torch.isfinite(exact)
    if not bool(torch.isfinite(value)[finite].all()):
        return float("inf")
    off = torch.where(finite, value - exact, 0).double()
    base = float(torch.where(finite, exact, 0).double().square().sum())
    return float(off.square().sum()) / base if base else float(bool(off.any()))


def _is_float(value: torch.Tensor | None) -> bool:
    return value is not None and value.is_floating_point()
