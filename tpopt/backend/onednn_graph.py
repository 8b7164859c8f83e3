"""oneDNN's graph compiler, reached through TorchScript: several operators as one partition with its own kernels.

torch's own batched products go to MKL, which leaves half of the speed of some CPUs on the table; a partition uses
oneDNN's products throughout (measured on 2 cores of an AMD EPYC with AVX-512, 12 heads of 128 x 64: 178 µs for a whole
attention, against 427 for torch's fused one and 369 for products and a softmax).
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch

_log = logging.getLogger("tpopt")

_SWITCH = threading.Lock()
"""The fuser's switch is one for the whole process: on while a function is compiled, then as it was before."""
_KEPT = 32
"""Compiled forms that a function keeps; the oldest goes first."""
_RUNS = 3
"""Runs until TorchScript's profiling executor has settled on a plan (it needs two), and one that uses it."""


class GraphFunction:
    """A function of f32 tensors on the CPU, compiled for each set of shapes and strides that it meets.

    Where the compiler takes no part of it, or fails, the function runs as it is, and the log says why.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self._function = function
        self._compiled: dict[Any, Callable[..., torch.Tensor]] = {}

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """What the function returns."""
        key = tuple((t.shape, t.stride()) for t in tensors)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = self._compile(tensors)
            while len(self._compiled) > _KEPT:
                self._compiled.pop(next(iter(self._compiled)), None)
        return found(*tensors)

    def _compile(self, tensors: tuple[torch.Tensor, ...]) -> Callable[..., torch.Tensor]:
        if any(t.device.type != "cpu" or t.dtype is not torch.float32 for t in tensors):
            return self._function
        try:
            return _partition(self._function, tensors)
        except RuntimeError as error:
            reason = str(error).strip().splitlines() or [""]
            _log.info("oneDNN's graph compiler is not used: %s", reason[0])
            return self._function


def _partition(function: Callable[..., torch.Tensor], tensors: tuple[torch.Tensor, ...]) -> Callable[..., torch.Tensor]:
    """The compiled function. Raises RuntimeError where no partition was made, or TorchScript fails."""
    jit: Any = torch.jit
    with _SWITCH, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; this is the only door to the graph compiler
        was = jit.onednn_fusion_enabled()
        jit.enable_onednn_fusion(True)
        try:
            compiled = jit.freeze(jit.trace(_Module(function).eval(), tensors, check_trace=False))
            for _ in range(_RUNS):
                compiled(*tensors)
            if "oneDNNFusionGroup" not in str(compiled.graph_for(*tensors)):
                raise RuntimeError("it takes no part of the function")
        finally:
            jit.enable_onednn_fusion(was)
    run: Callable[..., torch.Tensor] = compiled
    return run


class _Module(torch.nn.Module):
    """The function as a module, which is what can be frozen."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self._function(*tensors)
