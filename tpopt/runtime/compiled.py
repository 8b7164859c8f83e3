"""CompiledModel: the callable that users hold."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.backend.binding import Binder
from tpopt.backend.operators import inference
from tpopt.backend.plan import Plan
from tpopt.errors import GuardFailed
from tpopt.ir import Index, Program, Tensor
from tpopt.ir.index import evaluate
from tpopt.runtime.eager import EagerCallable
from tpopt.runtime.executable import Executable, Memory
from tpopt.runtime.guards import InputGuard, WeightGuard, refuse_autograd
from tpopt.runtime.outprobe import OutProbe

_log = logging.getLogger("tpopt")

MAX_BINDINGS = 16
"""Sizes whose bound plans are kept; the least recently used goes first."""


@dataclass(frozen=True)
class Signature:
    """How a model is called: pytree structures, which leaves are tensors, and what the results are.

    ``leaves`` holds, for each flattened input, the tensor's name or ``None`` for a value that was specialised on
    (``fixed`` holds it). ``results`` holds a Tensor, an Index or a plain value for each flattened result.
    """

    in_spec: Any
    out_spec: Any
    leaves: tuple[str | None, ...]
    fixed: tuple[Any, ...]
    results: tuple[Any, ...]


class Specialization:
    """One plan and the bound executables of the sizes it has met."""

    def __init__(
        self, plan: Plan, binder: Binder, signature: Signature, states: tuple[str, ...], device: torch.device
    ) -> None:
        self.plan, self.binder, self.signature, self.states = plan, binder, signature, states
        self.guard = InputGuard(plan.program.inputs[: len(plan.program.inputs) - len(states)], device)
        self._probe = OutProbe()
        self._bound: OrderedDict[tuple[tuple[str, int], ...], Executable] = OrderedDict()
        self._lock = threading.Lock()

    def bind(self, sizes: Mapping[str, int]) -> Executable:
        """The executable for these symbol values; building one resolves operators and packs weights, no search."""
        key = tuple(sorted(sizes.items()))
        found = self._bound.get(key)
        if found is not None:
            return found
        with self._lock:
            if key not in self._bound:
                self._bound[key] = Executable(self.plan, self.binder, sizes, self._probe)
                while len(self._bound) > MAX_BINDINGS:
                    self._bound.popitem(last=False)
            return self._bound[key]

    @property
    def memory(self) -> Memory:
        """Of the sizes bound last."""
        return next(reversed(self._bound.values())).memory if self._bound else Memory(0, 0, 0)


@dataclass
class State:
    """Buffers that the model updates: their current values, which belong to the compiled model, never to the user's."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class PlanCallable:
    """Runs specialisations on user-level arguments; asks ``respecialize`` for one when no plan fits the shapes."""

    def __init__(
        self,
        first: Specialization,
        weights: Mapping[str, torch.Tensor],
        state: State,
        training: Callable[[], bool],
        respecialize: Callable[[tuple[Any, ...], dict[str, Any]], Specialization | None],
        original: torch.nn.Module,
    ) -> None:
        self.specializations = [first]
        self._weights = WeightGuard.of(weights)
        self._state, self._training, self._respecialize = state, training, respecialize
        self._was_training = training()
        self._lock = threading.Lock()
        self._eager = EagerCallable(original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Results like the model's. Raises :class:`GuardFailed` or :class:`UnsupportedInput` before anything runs."""
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        refuse_autograd(tensors)
        self._weights.check()
        if self._training() != self._was_training:
            raise GuardFailed("the model's training flag changed after compilation; call model.eval() or compile again")
        found = self._find(leaves, spec, tensors) or self._add(args, kwargs, leaves, spec, tensors)
        if found is None:
            return self._eager(*args, **kwargs)
        chosen, sizes = found
        executable = chosen.bind(sizes)
        with inference():
            results = self._execute(chosen, executable, tensors)
        signature = chosen.signature
        return pytree.tree_unflatten(_results(signature.results, results, sizes), signature.out_spec)

    def _execute(
        self, chosen: Specialization, executable: Executable, tensors: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        program = chosen.plan.program
        if not program.aliases:
            return executable([*tensors, *self._state.tensors.values()])
        with self._state.lock:
            results = executable([*tensors, *self._state.tensors.values()])
            named = {**dict(zip((t.name for t in program.inputs), tensors, strict=False)), **self._state.tensors}
            for alias in program.aliases:
                named[alias.target].copy_(results[alias.output])
        return results

    def _find(
        self, leaves: list[Any], spec: Any, tensors: list[torch.Tensor]
    ) -> tuple[Specialization, Mapping[str, int]] | None:
        for candidate in self.specializations:
            if candidate.signature.in_spec != spec or not _fixed_match(candidate.signature, leaves):
                continue
            sizes = candidate.guard.sizes(tensors)
            if sizes is not None:
                return candidate, sizes
        return None

    def _add(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any], spec: Any, tensors: list[torch.Tensor]
    ) -> tuple[Specialization, Mapping[str, int]] | None:
        with self._lock:
            found = self._find(leaves, spec, tensors)
            if found is not None:
                return found
            fresh = self._respecialize(args, kwargs)
            if fresh is None:
                shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
                _log.warning(
                    "no plan fits inputs of shapes %s; the original model runs. Pass dynamic_shapes to tpopt.compile",
                    shapes,
                )
                return None
            self.specializations.append(fresh)
        sizes = fresh.guard.sizes(tensors)
        return None if sizes is None else (fresh, sizes)


def _fixed_match(signature: Signature, leaves: list[Any]) -> bool:
    return all(
        isinstance(leaf, torch.Tensor) if name is not None else (not isinstance(leaf, torch.Tensor) and leaf == fixed)
        for leaf, name, fixed in zip(leaves, signature.leaves, signature.fixed, strict=True)
    )


def _results(described: tuple[Any, ...], tensors: list[torch.Tensor], sizes: Mapping[str, int]) -> list[Any]:
    remaining = iter(tensors)
    return [
        next(remaining) if isinstance(d, Tensor) else evaluate(d, sizes) if isinstance(d, Index) else d
        for d in described
    ]


class CompiledModel:
    """What :func:`tpopt.compile` returns: call it like the model, print its report.

    ``original`` is the user's model, unchanged; ``program`` the tensor algebra after cleanup and ``plan`` the chosen
    kernels (both ``None`` when the original runs); ``report`` says what was done and why.
    """

    def __init__(
        self,
        run: Callable[..., Any],
        original: torch.nn.Module,
        report: Any,
        program: Program | None,
        plan: Plan | None,
    ) -> None:
        self._run = run
        self.original, self.report, self.program, self.plan = original, report, program, plan

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model without recording gradients."""
        return self._run(*args, **kwargs)

    def __repr__(self) -> str:
        return f"CompiledModel({type(self.original).__name__}, {self.report.result.status})"
