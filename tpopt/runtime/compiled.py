"""CompiledModel: the callable that users hold."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from tpopt.backend.binding import Binder
from tpopt.backend.operators import inference
from tpopt.backend.plan import Plan
from tpopt.errors import GuardFailed, UnsupportedModel
from tpopt.ir import Index, Program, Tensor
from tpopt.ir.index import evaluate
from tpopt.runtime.arguments import call_key
from tpopt.runtime.eager import EagerCallable
from tpopt.runtime.executable import Executable, Memory
from tpopt.runtime.graphs import Graphed, why_not_captured
from tpopt.runtime.guards import InputGuard, ThreadGuard, WeightGuard, refuse_autograd
from tpopt.runtime.outprobe import OutProbe

_log = logging.getLogger("tpopt")

Strides: TypeAlias = "tuple[tuple[int, ...] | None, ...]"
Bound: TypeAlias = "Executable | Graphed"

MAX_BINDINGS = 16
"""Bound plans that are kept; the least recently used goes first."""


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

    @cached_property
    def single(self) -> bool:
        """Whether the result is one tensor, in no container."""
        return bool(self.out_spec.is_leaf()) and len(self.results) == 1 and isinstance(self.results[0], Tensor)

    @cached_property
    def keywords(self) -> tuple[str, ...]:
        """Names of the keyword inputs, in the example's order."""
        return tuple(self.in_spec.child(1).context or ())


class Specialization:
    """One plan and the bound executables of the sizes it has met.

    ``threads`` is the number that the plan was priced and its weights packed for (``None`` where it does not matter).
    """

    def __init__(
        self,
        plan: Plan,
        binder: Binder,
        signature: Signature,
        states: tuple[str, ...],
        guard: InputGuard,
    ) -> None:
        self.plan, self.binder, self.signature, self.states = plan, binder, signature, states
        self.guard, self.updates = guard, bool(plan.program.aliases)
        self.threads = torch.get_num_threads() if guard.device.type == "cpu" else None
        self._probe = OutProbe()
        self._bound: OrderedDict[Hashable, Bound] = OrderedDict()
        self._lock = threading.Lock()

    def bind(self, sizes: Mapping[str, int], strides: Strides = ()) -> Bound:
        """The executable for these symbol values and input strides (``None``: row-major).

        Building one resolves operators and packs weights; nothing is searched.
        """
        key = (tuple(sorted(sizes.items())), strides if any(strides) else ())
        with self._lock:
            if key not in self._bound:
                self._bound[key] = self._bind(sizes)
                while len(self._bound) > MAX_BINDINGS:
                    self._bound.popitem(last=False)
            self._bound.move_to_end(key)
            return self._bound[key]

    def _bind(self, sizes: Mapping[str, int]) -> Bound:
        made = Executable(self.plan, self.binder, sizes, self._probe)
        if self.guard.device.type != "cuda":
            return made
        return Graphed(made, self.guard.device, why_not_captured(self.plan, sizes))

    @property
    def memory(self) -> Memory:
        """Of what ran last."""
        return next(reversed(self._bound.values())).memory if self._bound else Memory(0, 0, 0)


@dataclass
class State:
    """Buffers that the model updates: their current values, which belong to the compiled model, never to the user's.

    ``paths`` says what the user's model calls them.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def adopt(self, other: State) -> None:
        """Takes over the buffers that only another plan of the same model updates."""
        with self.lock:
            self.tensors = {**other.tensors, **self.tensors}
            self.paths = {**other.paths, **self.paths}


@dataclass(frozen=True)
class Ready:
    """What a call of known shapes needs."""

    chosen: Specialization
    sizes: Mapping[str, int]
    executable: Bound


def strides_of(tensors: Sequence[torch.Tensor]) -> Strides:
    """What a bound plan depends on besides sizes; ``None`` for row-major."""
    return tuple(None if t.is_contiguous() else t.stride() for t in tensors)


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
        self._weights, self._threads = WeightGuard.of(weights), ThreadGuard()
        self._state, self._training, self._respecialize = state, training, respecialize
        self._was_training = training()
        self.original = original
        self._lock = threading.Lock()
        self._eager = EagerCallable(original)
        self._ready: dict[Hashable, Ready] = {}
        self._last: tuple[Hashable, Ready | None] = None, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Results like the model's. Raises :class:`GuardFailed` or :class:`UnsupportedInput` before anything runs."""
        ready, tensors = self.ready(args, self._in_order(kwargs) if len(kwargs) > 1 else kwargs)
        if ready is None:
            return self._original(args, kwargs)
        results = self._updating(ready, tensors) if ready.chosen.updates else ready.executable(tensors)
        signature = ready.chosen.signature
        if signature.single:
            return results[0]
        return pytree.tree_unflatten(_results(signature.results, results, ready.sizes), signature.out_spec)

    def ready(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Ready | None, list[torch.Tensor]]:
        """What a call with these arguments runs (``None``: the original model), and the tensors among them.

        Raises as the call does, before anything runs.
        """
        key, tensors = call_key(args, kwargs)
        last, ready = self._last
        if key is None or key != last:
            ready = self._ready.get(key) if key is not None else None
        leaves, spec = ([], None) if ready is not None else pytree.tree_flatten((args, kwargs))
        if torch.is_grad_enabled():
            refuse_autograd(tensors)
        self._weights.check()
        if self._training() != self._was_training:
            raise GuardFailed("the model's training flag changed after compilation; call model.eval() or compile again")
        if ready is None:
            found = self._find(leaves, spec, tensors) or self._add(args, kwargs, leaves, spec, tensors)
            if found is None:
                return None, tensors
            chosen, sizes = found
            ready = Ready(chosen, sizes, chosen.bind(sizes, strides_of(tensors)))
            if key is not None:
                self._remember(key, ready)
        self._threads.check(ready.chosen.threads)
        return ready, tensors

    def check_weights(self) -> None:
        """Raises :class:`GuardFailed` naming a weight that changed after compilation."""
        self._weights.check()

    def _original(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The user's model, with the compiled model's own buffers in place of those that a call updates."""
        if not self._state.tensors:
            return self._eager(*args, **kwargs)
        with self._state.lock:
            own = {path: self._state.tensors[name] for name, path in self._state.paths.items()}
            results = self._eager.on(own, args, kwargs)
            for name, path in self._state.paths.items():
                self._state.tensors[name] = own[path]
        return results

    def _in_order(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Keyword inputs in the order of the example, which is part of what export remembers."""
        order = self.specializations[0].signature.keywords
        return {**{k: kwargs[k] for k in order if k in kwargs}, **kwargs}

    def _remember(self, key: Hashable, ready: Ready) -> None:
        with self._lock:
            if len(self._ready) >= MAX_BINDINGS:
                self._ready.pop(next(iter(self._ready)))
            self._ready[key] = ready
            self._last = key, ready

    def inputs(self, chosen: Specialization, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What an executable takes: the tensors of a call, and the buffers that the model updates."""
        return [*tensors, *(self._state.tensors[n] for n in chosen.states)]

    def _updating(self, ready: Ready, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Runs a plan that updates buffers or inputs."""
        program = ready.chosen.plan.program
        with self._state.lock, inference():
            results = ready.executable(self.inputs(ready.chosen, tensors))
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
        isinstance(leaf, torch.Tensor) if name is not None else (type(leaf) is type(fixed) and leaf == fixed)
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
        write: Callable[..., None] | None = None,
    ) -> None:
        self._run, self._write = run, write
        self.original, self.report, self.program, self.plan = original, report, program, plan

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model without recording gradients."""
        return self._run(*args, **kwargs)

    @property
    def callable(self) -> Callable[..., Any]:
        """What a call runs: a :class:`PlanCallable`, or the original model."""
        return self._run

    def save(self, path: str | Path, *, examples: bool = True) -> None:
        """Writes a file that :func:`tpopt.load` reads: programs, plan, weights and report, and no code.

        Args:
            path: ends in ``.tpg``; a file that is there is replaced when the new one is complete.
            examples: keep the example inputs, with which the file is verified and timed later on.

        Raises:
            UsageError: the path ends otherwise, or cannot be written.
            UnsupportedModel: the model was not captured, or its inputs or results are of a type that no file holds.
            GuardFailed: a weight changed after compilation.
        """
        if self._write is None:
            raise UnsupportedModel(f"there is nothing to save: {self.report.result.reason}")
        if isinstance(self._run, PlanCallable):
            self._run.check_weights()
        self._write(path, examples=examples)

    def __repr__(self) -> str:
        return f"CompiledModel({type(self.original).__name__}, {self.report.result.status})"
