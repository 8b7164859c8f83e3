"""Verification of a plan against the original model and the float64 reference."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from tpopt._compile.untouched import reseed
from tpopt.backend.operators import inference
from tpopt.errors import VerificationFailed
from tpopt.ir.walk import stage_reads
from tpopt.log import record
from tpopt.passes.precision.quantized import Quantized
from tpopt.report import VerificationRow
from tpopt.rewrite.numerics import Numerics
from tpopt.runtime.compiled import strides_of
from tpopt.verify import Verification, check
from tpopt.verify.report import failure, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpopt._compile.attempt import Attempt
    from tpopt.frontend.trace import Traced
    from tpopt.runtime.compiled import Specialization, State

SHARE = 0.4
"""Part of the time that is left which verification may use, and its bounds in seconds."""
LEAST_SECONDS, MOST_SECONDS = 4.0, 20.0


def verify_plan(attempt: Attempt, special: Specialization, state: State) -> None:
    """Raises :class:`VerificationFailed`; the figures go to the attempt."""
    traced = attempt.traced
    assert traced is not None
    remaining = SHARE * (attempt.deadline - time.perf_counter())
    try:
        result = check(
            _original(attempt, traced, special.guard.device),
            _candidate(special, attempt.options.seed),
            traced.algebra,
            seed=attempt.options.seed,
            tolerance=_tolerance(attempt),
            numerics=_label(attempt),
            example_inputs=example(attempt, traced, state),
            strict=attempt.options.strict,
            seconds=min(max(remaining, LEAST_SECONDS), MOST_SECONDS),
            samples=_calibrated(attempt, traced),
        )
    except VerificationFailed as error:
        raise VerificationFailed(f"{error}{_known_cause(attempt.model)}") from error
    attempt.verification = _row(result)
    record("verify", "compared", passed=result.passed, programs=result.programs, l2_rel=result.l2_rel)
    attempt.culprit = None
    if not result.passed:
        attempt.culprit = where(result, traced.algebra, example(attempt, traced, state), values_of(special))
        raise VerificationFailed(failure(result, traced.algebra, attempt.culprit))


def _known_cause(model: torch.nn.Module) -> str:
    """What makes an exported model compute something else than the model itself, where that is known."""
    encoders = (m for m in model.modules() if isinstance(m, torch.nn.TransformerEncoder))
    if not any(getattr(m, "use_nested_tensor", False) for m in encoders):
        return ""
    return (
        ". One cause is known: with a padding mask nn.TransformerEncoder sets padded positions to zero, which "
        "torch.export does not; build it with enable_nested_tensor=False"
    )


def _calibrated(attempt: Attempt, traced: Traced) -> list[list[torch.Tensor]]:
    """The example and the calibration data for a plan that stores codes by the scales found on them; else nothing."""
    coded = [s for s in attempt.storages if isinstance(s, Quantized)]
    names = {n for s in coded for n, wide in s.origin.items() if not s.is_constant(wide)}
    stages = () if attempt.choice is None else (c.stage for c in attempt.choice.solution.picked)
    if not any(t.name in names for s in stages for t in (*stage_reads(s), *s.outs)):
        return []
    return [[sample[t.name] for t in traced.algebra.inputs] for sample in attempt.samples]


def _row(result: Verification) -> VerificationRow:
    return VerificationRow(
        programs=result.programs,
        l2_rel=result.l2_rel,
        max_abs=result.max_abs,
        tolerance=result.tolerance,
        seed=result.seed,
        passed=result.passed,
    )


def _label(attempt: Attempt) -> Numerics:
    """The loosest label among capture, the picked candidates and the passes.

    Capture reassociates: what eager runs as one fused operator (``nn.MultiheadAttention`` in eval mode, say) export
    takes apart.
    """
    picked = attempt.choice.solution.picked if attempt.choice is not None else ()
    return max([Numerics.REASSOCIATING, attempt.history.numerics, *(c.numerics for c in picked)])


def _tolerance(attempt: Attempt) -> float:
    """What an approximate plan may lose by the budget (anything where it bounds a metric alone), else the option."""
    if _label(attempt) is not Numerics.APPROXIMATE:
        return attempt.options.tolerance
    return math.inf if attempt.budget.max_error is None else attempt.budget.max_error


def example(attempt: Attempt, traced: Traced, state: State) -> list[torch.Tensor]:
    """The example as the program takes it: the user's tensors, then the buffers that it updates."""
    leaves = pytree.tree_leaves((attempt.args, attempt.kwargs))
    tensors = [leaf.detach() for leaf, name in zip(leaves, traced.inputs, strict=True) if name is not None]
    return [*tensors, *state.tensors.values()]


def _original(attempt: Attempt, traced: Traced, device: torch.device) -> Callable[..., Any]:
    """The user's model on the program's inputs; updated buffers get the values given, the model keeps its own."""
    buffers = [traced.algebra.origins[name].nodes[0] for name in traced.states]

    def run(*tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [
            next(given) if name is not None else fixed for name, fixed in zip(traced.inputs, traced.fixed, strict=True)
        ]
        args, kwargs = pytree.tree_unflatten(leaves, traced.in_spec)
        reseed(device, attempt.options.seed)
        with torch.no_grad():
            if not buffers:
                return attempt.model(*args, **kwargs)
            values = dict(zip(buffers, given, strict=True))
            return torch.func.functional_call(attempt.model, values, args, kwargs)

    return run


def values_of(special: Specialization) -> Callable[..., Any]:
    """Every value of the bound plan on the program's inputs, by name."""
    users = len(special.guard.inputs)

    def run(*tensors: torch.Tensor) -> Any:
        sizes = special.guard.sizes(tensors[:users])
        assert sizes is not None
        with inference():
            return special.bind(sizes, strides_of(tensors[:users])).values(list(tensors))

    return run


def _candidate(special: Specialization, seed: int) -> Callable[..., Any]:
    """The bound plan on the program's inputs."""
    users = len(special.guard.inputs)

    def run(*tensors: torch.Tensor) -> Any:
        sizes = special.guard.sizes(tensors[:users])
        assert sizes is not None
        reseed(special.guard.device, seed)
        with inference():
            return special.bind(sizes, strides_of(tensors[:users]))(list(tensors))

    return run
