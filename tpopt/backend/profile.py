"""Measures candidates on the model's own values; competitors for one value are interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.margins import copied
from tpopt.backend.operators import inference
from tpopt.backend.plan import LAYOUT_SUFFIX
from tpopt.errors import TpoptError
from tpopt.ir.aten import flatten_outputs
from tpopt.measure import MIN_ROUNDS, Stopwatch, Timings, bootstrap_median, interleave, turn_order

ROUNDS = 7
SAMPLE_SECONDS = 0.0005
GROUP_SECONDS = 0.6
"""Time for one group of competitors; a slow kernel gets three rounds whatever it costs."""
HOPELESS = 3.0
"""A call that takes this many times as long as the quickest that does the same is not timed any further."""
HOPELESS_SECONDS = 0.0005
"""Nor is it dropped for a difference that is less than this."""
TRIES = 3
"""Calls of which the quickest counts before one is dropped: any single one may have been interrupted."""
LARGE_CONSTANTS = 1 << 18
"""Bytes of constants from which a call is timed as in a model whose other constants have passed through the caches."""
CACHED = 1 << 22
"""Bytes of constants that a model keeps in the caches next to the cores from one call to the next."""
MOST_EVICTED = 1 << 27
"""Bytes read before such a call, at most: more than that leaves nothing behind that less would not."""
OTHER_NUMBERS = 0.05
"""Relative L2 difference that no rounding explains: bf16 keeps 8 bits, and a value has been through one operator."""


class Profiler:
    """Produces intermediate values on demand and times calls on them.

    ``values`` maps a value's plan name to its tensor; what calls make joins them, and what nobody needs again is
    dropped by :meth:`release`, until :meth:`rewind`. ``between`` is the bytes that a model reads from one call of a
    kernel to the next. ``strided`` has a tensor without memory, by name, for each value that was ever at hand and is
    not contiguous.
    """

    def __init__(
        self,
        values: Mapping[str, torch.Tensor],
        binder: Binder,
        synchronize: Callable[[], None] = lambda: None,
        between: int = 0,
    ) -> None:
        self._given = {name: copied(value) for name, value in values.items()}
        self._values: dict[str, torch.Tensor] = {}
        self.strided: dict[str, torch.Tensor] = {}
        self.rewind()
        self._binder = binder
        self._synchronize = synchronize
        self.between = between if between > CACHED else 0
        self._read_between = torch.ones(min(self.between, MOST_EVICTED) // 4)

    def has(self, name: str) -> bool:
        """Whether a value is at hand."""
        return name in self._values or name in self._binder.weights

    def rewind(self) -> None:
        """Leaves nothing but the values given, as at first."""
        self._values.clear()
        for name, value in self._given.items():
            self._keep(name, value)

    def _keep(self, name: str, value: torch.Tensor) -> None:
        self._values[name] = value
        if value.layout is torch.strided and not value.is_contiguous():
            self.strided.setdefault(name, torch.empty_strided(value.shape, value.stride(), device="meta"))

    def release(self, names: Sequence[str]) -> None:
        """Drops values."""
        for name in names:
            self._values.pop(name, None)

    def run(self, call: Call, *, approximate: bool = False) -> str | None:
        """Runs a call once and keeps what is not at hand already.

        Returns the reason when it fails, or yields another shape, dtype or, unless it is ``approximate``, clearly other
        numbers than another call did.
        """
        try:
            with torch.no_grad():
                args, kwargs = call.fill(self._value)
                results = flatten_outputs(call.function(*args, **kwargs))
        except (RuntimeError, TypeError, ValueError, TpoptError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        for name, result in zip(call.outs, results, strict=True):
            known = self._values.get(name)
            reason = None if known is None else _difference(name, result, known, approximate=approximate)
            if reason is not None:
                return reason
        for name, result in zip(call.outs, results, strict=True):
            if name not in self._values:
                self._keep(name, copied(result))
        return None

    def measure(
        self, calls: Mapping[str, Call], deadline: float | None = None, streaming: Container[str] = ()
    ) -> dict[str, tuple[float, float, float, int]]:
        """Microseconds of each call: median, low, high, rounds. What is hopelessly slow is called a few times.

        Before each call of those in ``streaming`` whatever the model reads in between passes through the caches.
        """
        contestants = {name: self._thunk(call) for name, call in calls.items()}
        found = {}
        for name, seconds in self._hopeless(contestants, calls).items():
            found[name] = (seconds * 1e6, seconds * 0.7e6, seconds * 1.4e6, 1)
            del contestants[name]
        budget = GROUP_SECONDS if deadline is None else max(0.0, min(GROUP_SECONDS, deadline - time.perf_counter()))
        until = time.perf_counter() + budget
        cold = {n: (c, calls[n]) for n, c in contestants.items() if n in streaming}
        warm = {n: c for n, c in contestants.items() if n not in cold}
        with inference():
            watch = Stopwatch(min_sample_s=SAMPLE_SECONDS, settle_s=0.0, synchronize=self._synchronize)
            timings = interleave(warm, rounds=ROUNDS, stopwatch=watch, budget_s=budget) if warm else Timings({})
            every = {**timings.seconds, **self._streaming(cold, until)}
        for name, samples in every.items():
            middle = bootstrap_median(np.asarray(samples))
            found[name] = (middle.median * 1e6, middle.low * 1e6, middle.high * 1e6, len(samples))
        return found

    def _streaming(
        self, contestants: Mapping[str, tuple[Callable[[], Any], Call]], until: float
    ) -> dict[str, tuple[float, ...]]:
        """Seconds of single calls, in turns, each after everything else has been read, and what it takes is at hand."""
        names = list(contestants)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(ROUNDS if names else 0):
            if turn >= MIN_ROUNDS and time.perf_counter() > until:
                break
            for name in (names[k] for k in turn_order(len(names), turn)):
                thunk, call = contestants[name]
                self._read_between.sum()
                for value in (self._values[n] for n in call.refs() if n in self._values):
                    value.sum()
                seconds[name].append(self._once(thunk))
        return {name: tuple(samples) for name, samples in seconds.items()}

    def _hopeless(self, contestants: Mapping[str, Callable[[], Any]], calls: Mapping[str, Call]) -> dict[str, float]:
        """Seconds of a call of each contestant that is not worth more of them.

        One that computes more than another, from earlier values, may take as much longer as it likes.
        """
        same: dict[Any, list[str]] = {}
        for name in contestants:
            same.setdefault(self._work(calls[name]), []).append(name)
        found: dict[str, float] = {}
        with inference():
            for names in same.values():
                quickest = {name: self._once(contestants[name]) for name in names}
                for _ in range(TRIES - 1):
                    for name in _behind(quickest):
                        quickest[name] = min(quickest[name], self._once(contestants[name]))
                found |= _behind(quickest)
        return found

    def _work(self, call: Call) -> tuple[frozenset[str], tuple[str, ...]]:
        """What a call makes of which values, in whatever layout."""
        reads = frozenset(n.removesuffix(LAYOUT_SUFFIX) for n in call.refs() if n in self._values)
        return reads, tuple(n.removesuffix(LAYOUT_SUFFIX) for n in call.outs)

    def _once(self, call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        self._synchronize()
        return time.perf_counter() - start

    def _thunk(self, call: Call) -> Callable[[], Any]:
        """What a plan does at each call: a kernel that writes where it is told gets its memory beforehand."""
        args, kwargs = call.fill(self._value)
        if call.into is None:
            return partial(call.function, *args, **kwargs)
        return partial(call.into.at(args), *args, *(allocate() for allocate in call.into.fresh()))

    def _value(self, name: str) -> torch.Tensor:
        return self._values[name] if name in self._values else self._binder.weights[name]


def _behind(seconds: Mapping[str, float]) -> dict[str, float]:
    """Those that are too far behind the best to win."""
    best = min(seconds.values(), default=0.0)
    return {n: s for n, s in seconds.items() if s > HOPELESS * best and s - best > HOPELESS_SECONDS}


def _difference(name: str, result: torch.Tensor, known: torch.Tensor, *, approximate: bool) -> str | None:
    """Why a result cannot be the known value; differences of rounding are for verification to judge."""
    if known.shape != result.shape or known.dtype is not result.dtype:
        expected = f"{tuple(known.shape)} {known.dtype}"
        return f"yields {name} as {tuple(result.shape)} {result.dtype}, expected {expected}"
    if approximate or not (known.is_floating_point() or known.is_complex()):
        return None
    off, size = (float(torch.linalg.vector_norm(t)) for t in (result - known, known))
    if off <= OTHER_NUMBERS * size:  # neither is finite where one of the numbers is not, or too large to be squared
        return None
    finite = torch.isfinite(known) & torch.isfinite(result)
    wide = torch.complex128 if known.is_complex() else torch.float64
    off, size = (
        float(torch.linalg.vector_norm(torch.where(finite, t, 0), dtype=wide)) for t in (result - known, known)
    )
    if off > OTHER_NUMBERS * size:
        return f"yields other numbers for {name}: L2 norm {size:.1e}, difference {off:.1e}"
    return None
