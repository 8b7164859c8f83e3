"""The graph that a schedule is sought for, and the JSON file that it is read from."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tpopt.errors import UsageError


@dataclass(frozen=True)
class ComputationGraph:
    """A directed acyclic graph of computations, each with one result; node numbers index all the tuples.

    ``sizes`` are the bytes of the results, ``durations`` the time of one computation in any unit; both are integers.
    ``order`` is a topological order: the input order that budgets and extra time are measured against. A node that is
    not ``repeatable`` is computed exactly once. A result that must survive until the end is an operand of a node of
    size 0 that comes last. ``workspaces`` are bytes that a computation takes during its own step, beside its result.
    :meth:`of` checks all of it.
    """

    ids: tuple[str, ...]
    sizes: tuple[int, ...]
    durations: tuple[int, ...]
    predecessors: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    repeatable: tuple[bool, ...]
    workspaces: tuple[int, ...]

    @staticmethod
    def of(
        sizes: Sequence[int],
        durations: Sequence[int],
        predecessors: Sequence[Sequence[int]],
        *,
        ids: Sequence[str] = (),
        order: Sequence[int] = (),
        repeatable: Sequence[bool] = (),
        workspaces: Sequence[int] = (),
    ) -> ComputationGraph:
        """A checked graph; without ``order``, the topological order that keeps numbers ascending where it can.

        Raises:
            UsageError: lengths differ, a number is negative, an edge leads nowhere, there is a cycle, or ``order`` is
                no topological order of all nodes. The message names the node.
        """
        n = len(sizes)
        names = tuple(ids) or tuple(str(v) for v in range(n))
        again = tuple(repeatable) or (True,) * n
        extra = tuple(workspaces) or (0,) * n
        if not n:
            raise UsageError("the graph has no nodes")
        if {len(durations), len(predecessors), len(names), len(again), len(extra)} != {n}:
            raise UsageError(
                "sizes, durations, predecessors, ids, repeatable and workspaces need one entry for each node; they "
                f"have {n}, {len(durations)}, {len(predecessors)}, {len(names)}, {len(again)} and {len(extra)}"
            )
        for v, name in enumerate(names):
            if min(sizes[v], durations[v], extra[v]) < 0:
                raise UsageError(f"node {name!r} has a negative size, duration or workspace")
            if any(not 0 <= u < n or u == v for u in predecessors[v]):
                raise UsageError(f"node {name!r} has an operand that is itself or no node")
        operands = tuple(tuple(dict.fromkeys(p)) for p in predecessors)
        natural = _topological(operands, names)
        chosen = tuple(order) or natural
        _check_order(chosen, operands, names)
        return ComputationGraph(names, tuple(sizes), tuple(durations), operands, chosen, again, extra)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """The consumers of each node, in ascending order."""
        found: list[list[int]] = [[] for _ in self.ids]
        for v, operands in enumerate(self.predecessors):
            for u in operands:
                found[u].append(v)
        return tuple(map(tuple, found))

    @cached_property
    def edges(self) -> int:
        """The number of operands of all nodes."""
        return sum(map(len, self.predecessors))

    @cached_property
    def duration(self) -> int:
        """The time of computing each node once."""
        return sum(self.durations)

    @cached_property
    def structural_bound(self) -> int:
        """Bytes below which no schedule gets: some node's result beside all its operands."""
        return max(
            self.sizes[v] + self.workspaces[v] + sum(self.sizes[u] for u in self.predecessors[v])
            for v in range(len(self))
        )


def read_graph(path: Path) -> ComputationGraph:
    """Reads ``{"nodes": [{"id", "duration", "size"}], "edges": [[from, to]], "order": [ids]}``.

    ``order`` may be missing, as may a node's ``repeatable`` (true) and ``workspace`` (0); other keys are ignored. Ids
    are any text.

    Raises:
        UsageError: the file cannot be read, is no JSON of this form, or describes no valid graph.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    try:
        return _graph(document)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _graph(document: Any) -> ComputationGraph:
    nodes, edges = _list(document, "nodes"), _list(document, "edges")
    ids = [_text(node, "id", f"nodes[{k}]") for k, node in enumerate(nodes)]
    number = {name: v for v, name in enumerate(ids)}
    if len(number) < len(ids):
        twice = next(name for v, name in enumerate(ids) if number[name] != v)
        raise UsageError(f"two nodes have the id {twice!r}; ids must differ")
    predecessors: list[list[int]] = [[] for _ in ids]
    for k, edge in enumerate(edges):
        if not isinstance(edge, list) or len(edge) != 2:
            raise UsageError(f"edges[{k}] must be a pair [from, to] of ids")
        source, target = (_known(end, number, f"edges[{k}]") for end in edge)
        predecessors[target].append(source)
    order = document.get("order", [])
    if not isinstance(order, list):
        raise UsageError("'order' must be a list of ids")
    return ComputationGraph.of(
        [_whole(node, "size", ids[k]) for k, node in enumerate(nodes)],
        [_whole(node, "duration", ids[k]) for k, node in enumerate(nodes)],
        predecessors,
        ids=ids,
        order=[_known(name, number, "order") for name in order],
        repeatable=[bool(node.get("repeatable", True)) for node in nodes],
        workspaces=[_whole({"workspace": 0, **node}, "workspace", ids[k]) for k, node in enumerate(nodes)],
    )


def _list(document: Any, key: str) -> list[Any]:
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise UsageError(f"the graph must be an object with a list {key!r}")
    return found


def _text(node: Any, key: str, where: str) -> str:
    if not isinstance(node, dict) or not isinstance(node.get(key), (str, int)):
        raise UsageError(f"{where} must be an object with {key!r}, a text")
    return str(node[key])


def _whole(node: Mapping[str, Any], key: str, name: str) -> int:
    value = node.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"node {name!r} needs {key!r}, a whole number; it has {value!r}")
    return value


def _known(name: Any, number: Mapping[str, int], where: str) -> int:
    if str(name) not in number:
        raise UsageError(f"{where} names {name!r}, which is no node")
    return number[str(name)]


def _topological(predecessors: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[int, ...]:
    return kahn(predecessors, deque(), deque.append, deque.popleft, names)


def kahn(
    predecessors: Sequence[Sequence[int]],
    ready: Any,
    push: Callable[[Any, int], object],
    pop: Callable[[Any], int],
    names: Sequence[str] = (),
) -> tuple[int, ...]:
    """The topological order that takes what ``pop`` picks among the nodes that are ``ready`` (Kahn's algorithm).

    Raises :class:`UsageError` naming a node on a cycle.
    """
    waiting = [len(p) for p in predecessors]
    consumers: list[list[int]] = [[] for _ in predecessors]
    for v, operands in enumerate(predecessors):
        for u in operands:
            consumers[u].append(v)
    for v, count in enumerate(waiting):
        if not count:
            push(ready, v)
    order: list[int] = []
    while ready:
        u = pop(ready)
        order.append(u)
        for v in consumers[u]:
            waiting[v] -= 1
            if not waiting[v]:
                push(ready, v)
    if len(order) < len(waiting):
        stuck = next(v for v, count in enumerate(waiting) if count)
        raise UsageError(f"node {names[stuck] if names else stuck!r} waits for itself: the graph has a cycle")
    return tuple(order)


def _check_order(order: Sequence[int], predecessors: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    place = {v: t for t, v in enumerate(order)}
    if len(order) != len(names) or len(place) != len(names):
        raise UsageError(f"'order' must name each of the {len(names)} nodes once; it has {len(order)} entries")
    for v in order:
        late = next((u for u in predecessors[v] if place[u] > place[v]), None)
        if late is not None:
            raise UsageError(f"'order' puts {names[v]!r} before {names[late]!r}, which it needs")
