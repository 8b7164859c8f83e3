"""On CUDA: a bound plan captured once as a CUDA graph, and replayed, so that a call costs one launch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tpopt.backend.plan import Plan
from tpopt.ir import Opaque
from tpopt.runtime.executable import Executable, Memory, has_fixed_shape

_log = logging.getLogger("tpopt")

WARM_UPS = 2
"""Runs on the side stream before capture: by then libraries have chosen kernels and allocated workspaces."""


class Graphed:
    """Runs an :class:`Executable` of fixed sizes and strides by replaying a graph of it.

    It promises what the executable does: equal results, which belong to the caller and are never overwritten, and calls
    from several threads and streams. A call works on the stream that is current; as there is one set of buffers, calls
    take turns, on the device too. The first call runs plainly, since most sizes come once; the second captures, in a
    memory pool of its own. What cannot be captured (``reason``, or what CUDA says) runs plainly ever after, and the log
    says why. ``backend`` is ``torch.cuda`` or what stands for it.
    """

    def __init__(
        self, executable: Executable, device: torch.device, reason: str | None = None, backend: Any = torch.cuda
    ) -> None:
        self.executable, self._device, self._cuda = executable, device, backend
        self._lock = threading.Lock()
        self._done = backend.Event()
        self._plain = self._called = False
        self._graph: Any = None
        self._inputs: list[torch.Tensor] = []
        self._outputs: list[torch.Tensor] = []
        if reason is not None:
            self._give_up(reason)

    @property
    def memory(self) -> Memory:
        """Of the executable; the graph keeps a copy of the inputs and outputs besides."""
        return self.executable.memory

    def values(self, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Every value of one plain run."""
        return self.executable.values(inputs)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Results in the program's order; ``inputs`` in the program's order, of the sizes it was bound for."""
        if self._cuda.is_current_stream_capturing():  # somebody's own graph takes the kernels as they are
            return self.executable(inputs)
        with self._lock, self._cuda.device(self._device):
            stream = self._cuda.current_stream(self._device)
            stream.wait_event(self._done)  # the call before may have been on another stream
            results = self._run(inputs, stream)
            self._done.record(stream)
        return results

    def _run(self, inputs: Sequence[torch.Tensor], stream: Any) -> list[torch.Tensor]:
        first, self._called = not self._called, True
        if first or self._plain or (self._graph is None and not self._captured(inputs, stream)):
            return self.executable(inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given)
        self._graph.replay()
        return [t.clone() for t in self._outputs]

    def _captured(self, inputs: Sequence[torch.Tensor], stream: Any) -> bool:
        """Captures the executable on copies of the inputs; False, and plain from now on, when that fails."""
        graph, side = self._cuda.CUDAGraph(), self._cuda.Stream(self._device)
        try:
            statics = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in inputs]
            for static, given in zip(statics, inputs, strict=True):
                static.copy_(given)
            side.wait_stream(stream)
            with self._cuda.stream(side):
                for _ in range(WARM_UPS):
                    self.executable(statics)
            stream.wait_stream(side)
            pool = self._cuda.graph_pool_handle()
            # Other threads may allocate meanwhile: that is no error of this capture.
            with self._cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                outputs = self.executable(statics)
        except RuntimeError as error:
            stream.wait_stream(side)
            self._give_up(str(error).partition("\n")[0])
            return False
        self._inputs, self._outputs, self._graph = statics, outputs, graph
        return True

    def _give_up(self, reason: str) -> None:
        self._plain = True
        _log.warning("a plan runs without a CUDA graph: %s", reason)


def why_not_captured(plan: Plan, sizes: Mapping[str, int]) -> str | None:
    """What in a plan a graph cannot repeat: effects, and shapes that depend on data."""
    for step in plan.steps:
        if isinstance(step.stage, Opaque) and step.stage.effectful:
            return f"{step.stage.target} has effects, which a replay would not repeat"
        for out in step.stage.outs:
            if not has_fixed_shape(out, sizes):
                return f"the shape of {out.name} depends on data"
    return None
