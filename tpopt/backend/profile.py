"""Measures candidates on the model's own values; competitors for one value are interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.operators import inference
from tpopt.errors import TpoptError
from tpopt.ir.aten import flatten_outputs
from tpopt.measure import Stopwatch, bootstrap_median, interleave

ROUNDS = 7
SAMPLE_SECONDS = 0.0005
GROUP_SECONDS = 0.6
"""Time for one group of competitors; a slow kernel gets three rounds whatever it costs."""


class Profiler:
    """Produces intermediate values on demand and times calls on them.

    ``values`` maps a value's plan name to its tensor. ``makers`` maps a plan name to the call that yields it by the
    original operators; values that nobody needs again are dropped by :meth:`release`.
    """

    def __init__(
        self, values: Mapping[str, torch.Tensor], binder: Binder, synchronize: Callable[[], None] = lambda: None
    ) -> None:
        self._values = dict(values)
        self._binder = binder
        self._synchronize = synchronize

    def has(self, name: str) -> bool:
        """Whether a value is at hand."""
        return name in self._values or name in self._binder.weights

    def put(self, call: Call) -> None:
        """Runs a call and keeps its results (those not at hand already)."""
        with torch.no_grad():
            args, kwargs = call.fill(self._value)
            for name, result in zip(call.outs, flatten_outputs(call.function(*args, **kwargs)), strict=True):
                self._values.setdefault(name, result)

    def release(self, names: Sequence[str]) -> None:
        """Drops values."""
        for name in names:
            self._values.pop(name, None)

    def check(self, call: Call) -> str | None:
        """Runs a call once; the reason when it fails or yields another shape, dtype or clearly other numbers."""
        try:
            with torch.no_grad():
                args, kwargs = call.fill(self._value)
                results = flatten_outputs(call.function(*args, **kwargs))
        except (RuntimeError, TypeError, ValueError, TpoptError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        for name, result in zip(call.outs, results, strict=True):
            known = self._values.get(name)
            if known is not None and (known.shape != result.shape or known.dtype is not result.dtype):
                expected = f"{tuple(known.shape)} {known.dtype}"
                return f"yields {name} as {tuple(result.shape)} {result.dtype}, expected {expected}"
        return None

    def measure(
        self, calls: Mapping[str, Call], deadline: float | None = None
    ) -> dict[str, tuple[float, float, float, int]]:
        """Microseconds of each call: median, low, high, rounds."""
        contestants = {name: self._thunk(call) for name, call in calls.items()}
        budget = GROUP_SECONDS if deadline is None else max(0.0, min(GROUP_SECONDS, deadline - time.perf_counter()))
        with inference():
            watch = Stopwatch(min_sample_s=SAMPLE_SECONDS, settle_s=0.0, synchronize=self._synchronize)
            timings = interleave(contestants, rounds=ROUNDS, stopwatch=watch, budget_s=budget)
        found = {}
        for name, seconds in timings.seconds.items():
            middle = bootstrap_median(np.asarray(seconds))
            found[name] = (middle.median * 1e6, middle.low * 1e6, middle.high * 1e6, len(seconds))
        return found

    def _thunk(self, call: Call) -> Callable[[], Any]:
        args, kwargs = call.fill(self._value)
        function = call.function
        return lambda: function(*args, **kwargs)

    def _value(self, name: str) -> torch.Tensor:
        return self._values[name] if name in self._values else self._binder.weights[name]
