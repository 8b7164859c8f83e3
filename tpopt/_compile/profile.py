"""``tpopt.profile``: every kernel of a plan timed while the whole plan runs, beside what the machine could do."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from tpopt._compile.effort import opaque_macs
from tpopt.backend.machine import known_balance, machine_fingerprint, measured_bandwidths, synchronizer
from tpopt.backend.operators import inference
from tpopt.backend.plan import Step
from tpopt.backend.profile import CACHED
from tpopt.cost_models.roofline import Balance
from tpopt.errors import UnsupportedModel, UsageError
from tpopt.ir import DType, Kernel, Opaque, Stage, Tensor
from tpopt.ir.index import evaluate, index
from tpopt.ir.walk import stage_reads
from tpopt.ir.work import stage_work
from tpopt.measure import Stopwatch, bootstrap_median
from tpopt.report.facts import KernelRow
from tpopt.report.profile import Profile, StepRow
from tpopt.report.report import Report
from tpopt.runtime.compiled import CompiledModel, PlanCallable
from tpopt.runtime.graphs import Graphed
from tpopt.store.records import Records

ROUNDS: Final = 25
SETTLE_S: Final = 0.002
PLAIN: Final = frozenset({DType.F32, DType.I64, DType.I32, DType.BOOL})
"""Types of what a kernel reads and makes whose arithmetic is that of the roofline."""


def profile(
    compiled: CompiledModel, *args: Any, rounds: int = ROUNDS, records: str | Path | None = None, **kwargs: Any
) -> Profile:
    """Times every kernel of a compiled model in place, and compares it with the machine's roofline.

    Args:
        compiled: what :func:`tpopt.compile` or :func:`tpopt.load` returned.
        args: inputs of the model, as for a call; buffers that the model updates keep their values.
        rounds: timed calls, with a clock after each kernel, and as many without one.
        records: where measurements are kept; the user's cache by default.
        kwargs: keyword inputs.

    A kernel's roofline is the longest of three: the multiply-adds of the chosen algorithm at the speed of a large
    float32 product, its bytes at the speed of a copy of as many bytes (of constants, where the model has more of them
    than the caches hold: from memory), and one call. Kernels on other numbers than float32 have none. Source: Williams,
    Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 2009.

    Raises:
        UsageError: ``compiled`` is no compiled model, or ``rounds`` is less than 1.
        UnsupportedModel: the original model runs, for these inputs or at all, and the reason.
        UnsupportedInput, GuardFailed: as a call does.
    """
    if not isinstance(compiled, CompiledModel):
        raise UsageError(f"compiled: expected what tpopt.compile returns, got {type(compiled).__name__}")
    if rounds < 1:
        raise UsageError(f"rounds: expected at least 1, got {rounds}")
    run = compiled.callable
    if not isinstance(run, PlanCallable):
        raise UnsupportedModel(f"the original model runs, which has no plan: {compiled.report.result.reason}")
    with torch.no_grad():
        ready, tensors = run.ready(args, kwargs)
        if ready is None:
            raise UnsupportedModel("the original model runs for these inputs: no plan fits their shapes")
        inputs = run.inputs(ready.chosen, tensors)
        bound = ready.executable.executable if isinstance(ready.executable, Graphed) else ready.executable
        device = ready.chosen.guard.device
        whole, stamps = _timed(ready.executable, bound, inputs, rounds, device)
    kept = Records(records, machine_fingerprint(device))
    balance, bandwidths = known_balance(device, kept), measured_bandwidths(device, kept)
    machine = _Machine(balance, bandwidths) if balance is not None and bandwidths else None
    constants = {n: t.nbytes for n, t in ready.chosen.binder.weights.items() if t.layout is torch.strided}
    steps = ready.chosen.plan.steps
    streams = sum(constants.get(n, 0) for n in {t.name for s in steps for t in stage_reads(s.stage)}) > CACHED
    rows = tuple(
        _row(step, times, machine, ready.sizes, frozenset(constants) if streams else frozenset(), compiled.report)
        for step, times in zip(steps, np.diff(stamps, axis=1).T / 1e3, strict=True)
    )
    middle = bootstrap_median(whole)
    typical = stamps[np.argsort(stamps[:, -1] - stamps[:, 0])[rounds // 2]]
    begins = (typical - typical[0]).tolist()
    return Profile(
        steps=rows, call_us=middle.median, low=middle.low, high=middle.high, rounds=rounds,
        threads=torch.get_num_threads(), machine={} if machine is None else machine.figures(),
        spans=tuple(pairwise(begins)),
    )  # fmt: skip


def _timed(
    plain: Any, bound: Any, inputs: list[torch.Tensor], rounds: int, device: torch.device
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Microseconds of calls as they are, and the stamps (nanoseconds) of those with a clock; they take turns."""
    synchronize = synchronizer(device)

    def clock() -> int:
        synchronize()
        return time.perf_counter_ns()

    watch = Stopwatch(synchronize=synchronize)
    whole, stamps = [], []
    with inference():
        plain(inputs)
        stamped = bound.stamped(clock)
        warm = watch.repetitions(lambda: plain(inputs))  # a core that rested takes a while to be as fast as it can
        for _ in range(rounds):
            for timed in (False, True):
                time.sleep(SETTLE_S)
                for _ in range(warm):
                    plain(inputs)
                if timed:
                    stamps.append(stamped(inputs))
                else:
                    whole.append(1e6 * watch.time(lambda: plain(inputs), 1))
    return np.asarray(whole), np.asarray(stamps)


@dataclass(frozen=True)
class _Machine:
    """What the roofline rests on: ``bandwidths`` are bytes a microsecond by the bytes that are moved."""

    balance: Balance
    bandwidths: Mapping[int, float]

    def figures(self) -> dict[str, float]:
        memory, balance = self.bandwidths[max(self.bandwidths)], self.balance
        return {"gmacs_per_s": balance.macs_per_us / 1e3, "gbytes_per_s": memory / 1e3, "call_us": balance.call_us}

    def roofline(self, macs: int, near: int, far: int) -> tuple[float, str]:
        """Least microseconds for multiply-adds, bytes of values, and bytes of constants that come from memory."""
        sizes = sorted(self.bandwidths)
        cached = self.bandwidths[sizes[min(bisect_left(sizes, near), len(sizes) - 1)]]
        compute = macs / self.balance.macs_per_us
        memory = near / cached + far / self.bandwidths[sizes[-1]]
        return max((compute, "compute"), (memory, "memory"), (self.balance.call_us, "call"))


def _row(
    step: Step,
    times: np.ndarray[Any, Any],
    machine: _Machine | None,
    sizes: Mapping[str, int],
    streamed: frozenset[str],
    report: Report,
) -> StepRow:
    middle = bootstrap_median(times)
    tensors = {t.name: t for t in (*stage_reads(step.stage), *step.stage.outs)}.values()
    far = sum(_bytes(t, sizes) for t in tensors if t.name in streamed)
    near = sum(_bytes(t, sizes) for t in tensors) - far
    macs = sum(_macs(s, sizes) for s in _stages(step.stage))
    plain = all(t.dtype in PLAIN for t in tensors)
    least, bound = machine.roofline(macs, near, far) if plain and machine is not None else (None, "")
    listed = next((k for k in report.kernels if k.name == step.name), KernelRow(kind=step.kind, name=step.name))
    return StepRow(
        name=step.name, kind=step.kind, us=middle.median, low=middle.low, high=middle.high,
        source=listed.source, macs=macs, bytes=near + far, roofline_us=least, bound=bound,
        alone_us=step.predicted_us if step.measured_us is None else step.measured_us, next_best=listed.next_best,
        next_best_us=listed.next_best_us,
    )  # fmt: skip


def _stages(stage: Stage) -> Sequence[Stage]:
    return stage.defines if isinstance(stage, Kernel) else (stage,)


def _macs(stage: Stage, sizes: Mapping[str, int]) -> int:
    return opaque_macs(stage, sizes) if isinstance(stage, Opaque) else int(stage_work(stage, sizes).macs)


def _bytes(tensor: Tensor, sizes: Mapping[str, int]) -> int:
    count = tensor.dtype.itemsize
    for extent in tensor.shape:
        count *= evaluate(index(extent), sizes)
    return count
