"""Runs a schedule of a captured step: every operator when its turn comes, every value freed after its last reader."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.fx

from tpopt.training.operations import Operations, arguments


@dataclass(frozen=True)
class _Turn:
    """One step: the operation, which of its results are read later, and what is freed after it."""

    number: int
    keeps: tuple[int, ...]
    frees: tuple[tuple[int, int], ...]


class Observer(Protocol):
    """Hears of each operation when it has run."""

    def __call__(self, number: int, seconds: float, results: tuple[Any, ...]) -> object:
        """The operation's number, how long it took, and what it made."""
        ...


class Runner:
    """The steps of a schedule, ready to run."""

    def __init__(self, operations: Operations, sequence: Sequence[int], constants: Mapping[str, torch.Tensor]) -> None:
        self._operations = operations
        self._constants = constants
        self._turns = self._plan(sequence)

    def _plan(self, sequence: Sequence[int]) -> list[_Turn]:
        dies = self._operations.last_reads(sequence)
        results = set(self._operations.result_reads)
        latest = {k: step for step, k in enumerate(sequence)}
        frees: list[list[tuple[int, int]]] = [[] for _ in sequence]
        keeps: list[list[int]] = [[] for _ in sequence]
        for (made, i), step in dies.items():
            k = sequence[made]
            keeps[made].append(i)
            if (k, i) not in results or latest[k] != made:
                frees[step].append((k, i))
        return [_Turn(k, tuple(keeps[step]), tuple(frees[step])) for step, k in enumerate(sequence)]

    def run(self, placeholders: Mapping[torch.fx.Node, Any], observer: Observer | None = None) -> list[Any]:
        """The results of the step."""
        values: dict[tuple[int, int], Any] = {}
        for turn in self._turns:
            op = self._operations.items[turn.number]
            started = time.perf_counter()
            found = self._views(op.prelude, op.node.all_input_nodes, values, placeholders)
            args, kwargs = arguments(op.node, found)
            made = op.node.target(*args, **kwargs)  # type: ignore[operator]
            results = tuple(made) if isinstance(made, (tuple, list)) else (made,)
            if observer is not None:
                observer(turn.number, time.perf_counter() - started, results)
            for i in turn.keeps:
                values[turn.number, i] = results[i]
            del found, args, kwargs, made, results
            for key in turn.frees:
                values.pop(key, None)
        ops = self._operations
        found = self._views(ops.result_prelude, [n for n in ops.results if n is not None], values, placeholders)
        return [None if n is None else found[n] for n in ops.results]

    def _views(
        self,
        prelude: Sequence[torch.fx.Node],
        wanted: Sequence[torch.fx.Node],
        values: Mapping[tuple[int, int], Any],
        placeholders: Mapping[torch.fx.Node, Any],
    ) -> dict[torch.fx.Node, Any]:
        """What nodes stand for: values, what came from outside, and the views in between."""
        found: dict[torch.fx.Node, Any] = {}
        known = self._operations.values
        for node in (*(i for view in prelude for i in view.all_input_nodes), *wanted):
            if node in known:
                found[node] = values[known[node]]
            elif node.op == "placeholder":
                found[node] = placeholders[node]
            elif node.op == "get_attr":
                found[node] = self._constants[str(node.target)]
        for view in prelude:
            args, kwargs = arguments(view, found)
            found[view] = view.target(*args, **kwargs)  # type: ignore[operator]
        return found
