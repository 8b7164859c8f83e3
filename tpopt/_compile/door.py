"""The public function. Whatever happens inside, the user gets a callable that agrees with the model, and a reason."""

from __future__ import annotations

import inspect
import logging
import sysconfig
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt._compile.attempt import Attempt, Built
from tpopt._compile.bounds import nothing_within, problems
from tpopt._compile.build import build, device_of
from tpopt._compile.gate import race
from tpopt._compile.record import report_of
from tpopt._compile.untouched import same_random_numbers
from tpopt.errors import (
    InvalidProgram,
    TpoptError,
    UnsupportedInput,
    UnsupportedModel,
    UsageError,
    VerificationFailed,
)
from tpopt.log import record
from tpopt.options import Options
from tpopt.report import Report, ResultRow
from tpopt.runtime.compiled import CompiledModel, Signature
from tpopt.runtime.eager import EagerCallable

_log = logging.getLogger("tpopt")
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages."""


def compile(  # noqa: A001 - the public name
    model: torch.nn.Module,
    example_inputs: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    calibration: Iterable[Any] = (),
    validation: Iterable[Any] = (),
    options: Options | None = None,
    **overrides: Any,
) -> CompiledModel:
    """Returns a callable that computes what ``model`` computes, faster where that was proved and measured.

    Args:
        model: an ``nn.Module`` in eval mode; it is never changed.
        example_inputs: one tensor, or a tuple or list of positional inputs (any pytrees), of the shapes to optimize
            for.
        kwargs: keyword inputs.
        dynamic_shapes: as in ``torch.export.export``; without it, a dimension that changes becomes dynamic on its
            second size.
        calibration: batches of inputs of the example's shapes, as ``model`` takes them (labels, if any, last): errors
            of single values are measured on the first few, besides the example. They tell the ranges of values too, so
            that a budget may store some in eight bits.
        validation: batches on which the budget's metric is measured. Neither is used for anything else.
        options: see :class:`Options`.
        **overrides: fields of :class:`Options` by name, in place of those in ``options``.

    The result runs without gradients; what a plan returns is contiguous and shares memory with nothing. It is the
    original model, with the reason in ``report.result``, when export refuses the model, or the optimized program is not
    faster, or does not agree. What a callback or a data set of the caller raises passes through.

    Raises:
        UsageError: an argument is of a wrong kind; UnknownName for an option that does not exist.
        LimitExceeded: no plan keeps the budget's bounds on memory; the message says what the nearest one takes.
    """
    chosen = Options.of(options, overrides)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    args = positional(example_inputs)
    given = _in_signature_order(model, dict(kwargs or {}))
    start = time.perf_counter()
    attempt = Attempt(model, args, given, dynamic_shapes, chosen, start)
    _check_budget(chosen, validation)
    attempt.calibration, attempt.validation = calibration, validation
    with same_random_numbers(args, given, list(model.parameters())):
        result, callable_ = _optimized(attempt)
    if callable_ is None:
        callable_ = EagerCallable(model)
    attempt.seconds = time.perf_counter() - start
    report = report_of(attempt, result)
    kernels = {} if attempt.built is None else dict(attempt.built.plan.count())
    verdict = {"status": result.status, "reason": result.reason, "speedup": result.speedup}
    record("race", "done", seconds=round(attempt.seconds, 3), kernels=kernels, **verdict)
    done = attempt.built if result.status == "optimized" else None
    program = None if attempt.cleaned is None else attempt.cleaned
    return CompiledModel(callable_, model, report, program, done.plan if done else None, _writer(attempt, done, report))


def _optimized(attempt: Attempt) -> tuple[ResultRow, Any]:
    """The verdict, and the callable when it is ``optimized``."""
    built = None
    try:
        build(attempt)
        built, attempt.pricer = attempt.built, None  # which holds the example and what the model makes of it
        assert built is not None
        attempt.progress("race")
        result = race(attempt, built) if attempt.options.gate else _not_raced(attempt, built)
    except (UnsupportedModel, UnsupportedInput, InvalidProgram) as error:
        return ResultRow(status="original", reason=str(error)), None
    except VerificationFailed as error:
        return ResultRow(status="original", reason=f"verification failed: {error}"), None
    except KeyboardInterrupt:
        if built is None:
            return ResultRow(status="original", reason="interrupted before a verified program was ready"), None
        result = ResultRow(status="optimized", reason="interrupted during the final race; the verified program is kept")
    except TpoptError:
        raise
    except Exception as error:  # a defect of ours must not cost the user the model
        if _is_callers(error):
            raise
        return ResultRow(status="original", reason=_defect(error)), None
    if result.status != "optimized":
        return result, None
    chosen = attempt.built or built
    chosen.specialization.binder.keep_only((s.stage for s in chosen.plan.steps), attempt.sizes)
    return result, chosen.callable


def _is_callers(error: Exception) -> bool:
    """Whether code of the caller raised it, neither ours nor installed: a callback, a dataset."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    ours = str(frame.f_globals.get("__name__")).partition(".")[0] == __name__.partition(".")[0]
    file = Path(frame.f_code.co_filename)
    installed = INSTALLED.intersection(file.parts) or file.is_relative_to(sysconfig.get_path("stdlib"))
    return not ours and not installed and file.is_file()


def _defect(error: Exception) -> str:
    """What to tell about an error that nobody raises on purpose: a warning, and its traceback in the log."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    reason = f"a defect of tpopt: {type(error).__name__} in {Path(at.filename).name}, line {at.lineno}: {error}"
    _log.error("the original model runs because of %s", reason, exc_info=error)
    warnings.warn(f"{reason}; the original model runs. Please report it", RuntimeWarning, stacklevel=4)
    return reason


def _not_raced(attempt: Attempt, built: Built) -> ResultRow:
    broken = problems(attempt, built, None)
    if broken:
        raise nothing_within(attempt, broken)
    return ResultRow(status="optimized", reason="not raced: gate=False")


def _writer(attempt: Attempt, done: Built | None, report: Report) -> Callable[..., None] | None:
    """What saves the model; ``None`` where it was never captured."""
    traced, cleaned = attempt.traced, attempt.cleaned
    if traced is None or cleaned is None:
        return None
    inputs = traced.original.inputs[: len(traced.original.inputs) - len(traced.states)]
    leaves = pytree.tree_leaves((attempt.args, attempt.kwargs))
    given = [leaf for leaf, name in zip(leaves, traced.inputs, strict=True) if name is not None]
    examples = {t.name: g.detach() for t, g in zip(inputs, given, strict=True)}
    paths = {n: traced.algebra.origins[n].nodes[0] for n in traced.states}
    signature = Signature(traced.in_spec, traced.out_spec, traced.inputs, traced.fixed, traced.outputs)

    def write(path: str | Path, *, examples: bool = True, shown: Mapping[str, torch.Tensor] = examples) -> None:
        from tpopt._saved.save import Saveable, save

        values = {**traced.weights, **({} if done is None else done.specialization.binder.weights)}
        saveable = Saveable(
            original=traced.original, algebra=cleaned, plan=None if done is None else done.plan, signature=signature,
            requires=traced.guard, weights={n: t for n, t in values.items() if n not in paths},
            states={n: traced.weights[n] for n in traced.states} if done is None else done.state.tensors, paths=paths,
            sizes=attempt.sizes, examples=shown, device=device_of(traced, attempt.args),
            pipeline=attempt.options.pipeline, kernels=attempt.options.kernels,
        )  # fmt: skip
        save(saveable, report, path, examples=examples)

    return write


def _in_signature_order(model: torch.nn.Module, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword inputs in the order of ``forward``, which is the order that export gives them."""
    names = inspect.signature(model.forward).parameters
    return {**{n: kwargs[n] for n in names if n in kwargs}, **kwargs}


def _check_budget(options: Options, validation: Iterable[Any]) -> None:
    """Raises :class:`UsageError` where a budget cannot be checked on the data given, or without the last race."""
    budget = options.spending
    if not options.gate and (budget.latency_ms is not None or budget.peak_bytes is not None):
        raise UsageError("budget: latency_ms= and peak_bytes= are measured by the last race; leave gate=True")
    if isinstance(validation, Iterator):
        raise UsageError(
            "validation: expected data that can be read several times, a list or a loader, not an iterator"
        )
    if budget.max_drop is not None and isinstance(validation, tuple) and not validation:
        raise UsageError("budget: max_drop= is measured on validation data; pass validation=")


def positional(example_inputs: Any) -> tuple[Any, ...]:
    """Example inputs as positional arguments. Raises :class:`UsageError` for other than a tensor, tuple or list."""
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,)
    if not isinstance(example_inputs, (tuple, list)):
        raise UsageError(
            f"example_inputs: expected a tensor, or a tuple or list of inputs, got {type(example_inputs).__name__}; "
            "keyword inputs go in kwargs="
        )
    return tuple(example_inputs)
