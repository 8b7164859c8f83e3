"""Trials: a kernel built with other loops, compared with its own schedule's results, and timed against it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from tpopt.backend.build.cache import KernelCache
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.physical import LOGICAL, in_order
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.generated.sizes import shape
from tpopt.backend.operators import inference
from tpopt.errors import KernelUnsupported, TpoptError, VerificationFailed
from tpopt.ir import Tensor, aten
from tpopt.measure import Stopwatch, interleave
from tpopt.store.folder import KERNELS, cache_folder

MODULES: Final = ("tpopt.backend.tvm.tune.trial", "tpopt.backend.tvm.build")
"""What a worker of trials imports before it forks."""
ROUNDS: Final = 5
SAMPLE_SECONDS: Final = 0.002
MOST_SECONDS: Final = 0.5
"""No round begins later; three always do."""
HOPELESS: Final = 2.0
"""A call that takes this many times as long as the schedule's own is not timed any further: it will not win."""
HOPELESS_SECONDS: Final = 0.001
"""Nor is it given up for a difference that is less than this."""
OTHER_NUMBERS: Final = 1e-5
"""Relative L2 difference that no other order of float32 sums explains."""


def item(request: KernelRequest, decisions: Sequence[str], rounds: int = ROUNDS) -> dict[str, Any]:
    """What :func:`try_kernels` is asked for."""
    return {"request": request.encode().decode(), "decisions": list(decisions), "rounds": rounds}


def try_kernels(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """For each decision of one kernel its microseconds and the ``ratio`` to its own schedule, from interleaved rounds.

    Or, where it cannot be built or computes other numbers, an ``error`` in words.
    """
    request = KernelRequest.decode(asked["request"].encode())
    torch.set_num_threads(request.processor.threads)
    inputs = made_inputs(request)
    constants = {n: inputs[n] for n in request.constants}
    moving = [t for n, t in enumerate(inputs) if n not in constants]
    base = GeneratedKernel(request, constants, _kept)
    with torch.no_grad():
        wanted = _results(base, moving)
        found = []
        for decisions in asked["decisions"]:
            with tempfile.TemporaryDirectory() as folder:
                build = partial(_fresh, folder=Path(folder))
                own = GeneratedKernel(replace(request, decisions=decisions), constants, build)
                try:
                    _compare(_results(own, moving), wanted)
                    found.append(_timed(own, base, moving, asked["rounds"]))
                except TpoptError as error:
                    found.append({"error": f"{type(error).__name__}: {error}"})
    return found


def made_inputs(request: KernelRequest) -> list[torch.Tensor]:
    """Seeded values for the inputs of a request. Raises :class:`KernelUnsupported` for inputs that may be places."""
    generator = torch.Generator().manual_seed(0)
    return [_made(t, n in request.channels_last, generator) for n, t in enumerate(request.program.inputs)]


def _made(tensor: Tensor, last: bool, generator: torch.Generator) -> torch.Tensor:
    dtype, size = aten.torch_dtype(tensor.dtype), shape(tensor)
    if dtype is torch.bool:
        return torch.rand(size, generator=generator) < 0.5
    if not (dtype.is_floating_point or dtype.is_complex):
        raise KernelUnsupported(f"{tensor.name} is of {tensor.dtype}: values that may be places are not made up")
    given = torch.randn(in_order(size, LOGICAL) if last else size, generator=generator).to(dtype)
    return given.contiguous(memory_format=torch.channels_last) if last else given


def _kept(request: KernelRequest) -> Path:
    """The kernel of the cache, built if it is not there: the base of every trial of a task."""
    from tpopt.backend.tvm.build import build_kernel

    cache = KernelCache(cache_folder(KERNELS))
    present = cache.get(request.digest)
    if present is None:
        written = cache.scratch(request.digest)
        metadata = build_kernel(request.encode(), written)
        present = cache.put(request.digest, written, metadata, 0.0)
    return present.path


def _fresh(request: KernelRequest, folder: Path) -> Path:
    from tpopt.backend.tvm.build import build_kernel

    build_kernel(request.encode(), folder / "kernel.so")
    return folder / "kernel.so"


def _results(kernel: GeneratedKernel, moving: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    found = kernel(*moving)
    return found if isinstance(found, tuple) else (found,)


def _compare(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> None:
    for position, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if not other.is_floating_point():
            off = float(not torch.equal(one, other))
        else:
            norm = torch.linalg.vector_norm(other.double())
            off = float(torch.linalg.vector_norm(one.double() - other.double()) / norm.clamp_min(1e-30))
        if not isfinite(off) or off > OTHER_NUMBERS:
            raise VerificationFailed(f"output {position} differs by {off:.1e} (relative L2) from the schedule's own")


def _timed(own: GeneratedKernel, base: GeneratedKernel, moving: Sequence[torch.Tensor], rounds: int) -> dict[str, Any]:
    calls = {}
    for name, kernel in (("own", own), ("base", base)):
        calls[name] = partial(kernel.at(moving), *moving, *(allocate() for allocate in kernel.fresh()))
    watch = Stopwatch(min_sample_s=SAMPLE_SECONDS, settle_s=0.0)
    with inference():
        quick = {name: watch.time(call, 1) for name, call in calls.items()}  # each has run once: it is warm
        ratio_once = quick["own"] / quick["base"]
        if ratio_once > HOPELESS and quick["own"] - quick["base"] > HOPELESS_SECONDS:
            once = {"us": quick["own"] * 1e6, "base_us": quick["base"] * 1e6, "ratio": ratio_once}
            return {**once, "low": 0.7 * ratio_once, "high": 1.4 * ratio_once, "rounds": 1}
        timings = interleave(calls, rounds=rounds, stopwatch=watch, budget_s=MOST_SECONDS)
    us = {name: np.asarray(seconds) * 1e6 for name, seconds in timings.seconds.items()}
    ratio = timings.ratio("own", "base")
    return {
        "us": float(np.median(us["own"])),
        "base_us": float(np.median(us["base"])),
        "ratio": ratio.median,
        "low": ratio.low,
        "high": ratio.high,
        "rounds": len(us["own"]),
    }
