"""Slots on this machine."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping, Sequence

from tpopt.errors import UsageError
from tpopt.executors.jobs import Answer, Call
from tpopt.executors.slot import Slot

_Ended = queue.SimpleQueue[tuple[str, Answer]]


class LocalWorkers:
    """``count`` worker processes (default: one a core) that run jobs for ``device``; none starts before its first job.

    ``modules`` are imported once in each.
    """

    def __init__(self, count: int | None = None, *, modules: Sequence[str] = (), device: str = "cpu") -> None:
        if count is not None and count < 1:
            raise UsageError(f"count={count}: expected at least one worker")
        self._modules = tuple(modules)
        self._device = device
        self._count = count or len(os.sched_getaffinity(0))
        self._made = 0
        self._servers: dict[str, _Server] = {}
        self._idle: dict[str, None] = {}
        self._ended: _Ended = queue.SimpleQueue()
        self._closed = False

    def free(self) -> Mapping[str, str]:
        while not self._closed and len(self._servers) < self._count:
            name = f"local-{os.getpid()}-{self._made}"
            self._servers[name] = _Server(name, self._modules, self._ended)
            self._idle[name] = None
            self._made += 1
        return dict.fromkeys(self._idle, self._device)

    def start(self, slot: str, call: Call) -> None:
        del self._idle[slot]
        self._servers[slot].calls.put(call)

    def wait(self, seconds: float) -> list[tuple[str, Answer]]:
        found = []
        try:
            found.append(self._ended.get(timeout=max(0.0, seconds)))
            while True:
                found.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        known = [(slot, answer) for slot, answer in found if slot in self._servers]
        self._idle.update(dict.fromkeys(slot for slot, _ in known))
        return known

    def abandon(self, slot: str) -> None:
        self._idle.pop(slot, None)
        server = self._servers.pop(slot, None)
        if server is not None:
            server.calls.put(None)
            server.slot.kill()

    def close(self) -> None:
        self._closed = True
        servers = list(self._servers.values())
        for slot in list(self._servers):
            self.abandon(slot)
        for server in servers:
            server.thread.join(5.0)


class _Server:
    """The thread of a slot: the system ends a worker with the thread that started it, so it must live as long."""

    def __init__(self, name: str, modules: Sequence[str], ended: _Ended) -> None:
        self.slot = Slot(modules)
        self.calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._name, self._ended = name, ended
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while (call := self.calls.get()) is not None:
            self._ended.put((self._name, self.slot.run(call)))
        self.slot.end()
