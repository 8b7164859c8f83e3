"""Finds out, by watching an allocation counter, whether an operator's ``out=`` form really writes where it is told."""

from __future__ import annotations

import os
import threading
import warnings
from typing import Any

import torch
from torch.autograd import profiler

from tpopt.backend.call import Call

_ALLOCATION = "[memory]"


class OutProbe:
    """Remembers the verdict for each operator and rank; one probe serves a whole compiled model."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], bool] = {}
        self._lock = threading.Lock()

    def writes_in_place(self, call: Call, args: list[Any], kwargs: dict[str, Any], result: torch.Tensor) -> bool:
        """Whether ``out_function`` fills a given buffer with the same values and allocates less than half of it.

        No, while somebody profiles: a second profiler would end the first.
        """
        if torch._C._autograd._profiler_enabled():  # noqa: SLF001 - torch has no public way to ask
            return False
        layouts = tuple(tuple(a.stride()) for a in args if isinstance(a, torch.Tensor))
        key = (call.label, result.dtype, tuple(result.shape), layouts)
        with self._lock:
            if key not in self._known:
                self._known[key] = _probe(call, args, kwargs, result)
            return self._known[key]


def _probe(call: Call, args: list[Any], kwargs: dict[str, Any], result: torch.Tensor) -> bool:
    if call.out_function is None:
        return False
    buffer = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device=result.device)
    where = buffer.data_ptr()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would announce each start on stderr
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns when it resizes an out= buffer: then it is no destination
            with profiler.profile(use_kineto=False, profile_memory=True) as seen:
                call.out_function(*args, **kwargs, out=buffer)
    except (RuntimeError, TypeError, NotImplementedError, UserWarning):
        return False
    allocated = sum(max(e.cpu_memory_usage, 0) for e in seen.function_events if e.name == _ALLOCATION)
    allocated += sum(max(e.self_cpu_memory_usage, 0) for e in seen.function_events if e.name != _ALLOCATION)
    same = buffer.data_ptr() == where and buffer.stride() == result.stride()
    return same and allocated * 2 < result.numel() * result.element_size() and _equal(buffer, result)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.dtype.is_floating_point or a.dtype.is_complex:
        return torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)
    return torch.equal(a, b)
