"""Slots on a Ray cluster: an actor on a node for each share of its resources that a device needs.

Ray finds nodes and moves calls; the process that runs a job is the actor's own child, so that a job that crashes or
hangs takes nothing with it. tpopt must be installed on every node. Only what can reach the cluster's ports should: Ray
runs whatever it is sent.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from tpopt.errors import UsageError
from tpopt.executors.jobs import Answer, Call
from tpopt.executors.slot import Slot

REFRESH_SECONDS: Final = 1.0
"""How often the nodes of the cluster are asked for."""
CPU: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType({"cpu": MappingProxyType({"CPU": 1.0})})


class Agent:
    """What runs on a node: the slot of an actor."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._slot = Slot(modules)

    def ready(self) -> bool:
        """Answered once the actor runs."""
        return True

    def run(self, call: Call) -> Answer:
        """The answer of a call."""
        return self._slot.run(call)


class RayWorkers:
    """Workers on the Ray cluster at ``address`` (``host:port``, ``ray://host:port`` or ``auto``).

    ``devices`` names what a job can ask for and the resources of one slot of it: ``{"cpu": {"CPU": 1}}`` by default,
    ``{"h100": {"GPU": 1}}`` or a custom resource where nodes have one. Each node carries as many slots of a device as
    its resources allow; nodes may come and go. Raises UsageError where Ray is missing or the cluster cannot be reached.
    """

    def __init__(
        self,
        address: str,
        *,
        devices: Mapping[str, Mapping[str, float]] = CPU,
        modules: Sequence[str] = (),
    ) -> None:
        self._devices = {name: dict(needs) for name, needs in devices.items()}
        for name, needs in self._devices.items():
            if not needs or any(not amount > 0 for amount in needs.values()):
                raise UsageError(f"device {name!r} needs {needs}: expected a positive amount of some resource")
        self._ray = _ray()
        self._modules = tuple(modules)
        self._own = not self._ray.is_initialized()
        if self._own:
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                raise UsageError(f"no Ray cluster answers at {address!r}: {error}") from error
        self._exceptions: Any = importlib.import_module("ray.exceptions")
        self._actors: dict[str, _Actor] = {}
        self._pending: dict[Any, str] = {}
        self._made = 0
        self._asked = -REFRESH_SECONDS

    def free(self) -> Mapping[str, str]:
        self._refresh()
        return {name: a.device for name, a in self._actors.items() if a.idle}

    def start(self, slot: str, call: Call) -> None:
        actor = self._actors[slot]
        actor.idle = False
        try:
            self._pending[actor.handle.run.remote(call)] = slot
        except self._exceptions.RayError:  # the actor is known to be dead: wait() finds its reference missing
            actor.failed = True

    def wait(self, seconds: float) -> list[tuple[str, Answer]]:
        found = [self._lost(name, "its actor is gone") for name, a in list(self._actors.items()) if a.failed]
        refs = list(self._pending)
        if not refs:
            time.sleep(0 if found else seconds)
            return found
        first, rest = self._ray.wait(refs, num_returns=1, timeout=0 if found else seconds)
        if first and rest:
            more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
            first = [*first, *more]
        for ref in first:
            answer = self._answer(ref, self._pending.pop(ref))
            found += [] if answer is None else [answer]
        return found

    def abandon(self, slot: str) -> None:
        actor = self._actors.pop(slot, None)
        self._pending = {ref: name for ref, name in self._pending.items() if name != slot}
        if actor is not None:
            with suppress(Exception):  # it is gone, which is what is wanted
                self._ray.kill(actor.handle)

    def close(self) -> None:
        for slot in list(self._actors):
            self.abandon(slot)
        if self._own and self._ray.is_initialized():
            self._ray.shutdown()

    def _answer(self, ref: Any, slot: str) -> tuple[str, Answer] | None:
        try:
            answer = self._ray.get(ref)
        except self._exceptions.RayError as error:
            started = slot in self._actors and self._actors[slot].started
            lost = self._lost(slot, str(error).splitlines()[0] if str(error) else type(error).__name__)
            return lost if started else None
        actor = self._actors.get(slot)
        if actor is None:
            return None
        actor.idle = True
        if not actor.started:
            actor.started = True
            return None
        return slot, answer

    def _lost(self, slot: str, reason: str) -> tuple[str, Answer]:
        self.abandon(slot)
        self._asked = -REFRESH_SECONDS
        return slot, Answer("lost", reason=reason)

    def _refresh(self) -> None:
        """Makes actors for what nodes have to offer, and forgets those of nodes that are gone."""
        if time.monotonic() - self._asked < REFRESH_SECONDS:
            return
        self._asked = time.monotonic()
        alive = {n["NodeID"]: n["Resources"] for n in self._ray.nodes() if n["Alive"]}
        for slot, actor in list(self._actors.items()):
            if actor.node not in alive and actor.idle:
                self.abandon(slot)
        for node, resources in sorted(alive.items()):
            for device, needs in self._devices.items():
                share = min(int(resources.get(name, 0.0) / amount + 1e-6) for name, amount in needs.items())
                present = sum(a.node == node and a.device == device for a in self._actors.values())
                for _ in range(share - present):
                    self._add(node, device, needs)

    def _add(self, node: str, device: str, needs: Mapping[str, float]) -> None:
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
        own = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        options: dict[str, Any] = {"num_cpus": 0, **{own[n]: a for n, a in needs.items() if n in own}}
        handle = (
            self._ray.remote(Agent)
            .options(
                **options,
                resources={n: a for n, a in needs.items() if n not in own},
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False),
            )
            .remote(self._modules)
        )
        name = f"{device}@{node[:8]}-{self._made}"
        self._made += 1
        self._actors[name] = _Actor(handle, node, device)
        self._pending[handle.ready.remote()] = name


class _Actor:
    def __init__(self, handle: Any, node: str, device: str) -> None:
        self.handle, self.node, self.device = handle, node, device
        self.started = self.idle = self.failed = False


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("a cluster needs Ray, which is not installed: pip install 'tpopt[cluster]'") from error
