"""Which pass, or which kernel of the plan, broke the numbers of a model, or slowed it.

Each pass is judged by the program before and after it, on the same inputs in float64; each kernel by the algebra that
it stands for, on the inputs that it should get. Nothing is guessed by leaving parts out, so all are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch.utils import _pytree as pytree

from tpopt._compile.attempt import Attempt
from tpopt._compile.build import build
from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.operators import inference
from tpopt.choose.originals import is_original
from tpopt.errors import TpoptError
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Kernel, Opaque, Program, Stage
from tpopt.ir.aten import flatten_outputs, torch_dtype
from tpopt.ir.to_torch import to_torch
from tpopt.ir.walk import stage_reads
from tpopt.measure import Stopwatch, interleave
from tpopt.rewrite import Pipeline, registry

WRONG: Final = 1e-4
"""Relative L2 difference that no rounding of one float32 kernel, and no constant that a pass rounds, explains."""
SLOWER: Final = 1.25
"""Times as long as the operators that it replaces: more than timing on a shared machine varies."""
LEAST_SECONDS: Final = 20e-6
ROUNDS: Final = 9


@dataclass(frozen=True)
class Culprit:
    """A pass or a kernel that is wrong or slow.

    Attributes:
        kind: ``pass`` or ``kernel``.
        name: as ``tpopt passes`` and the report call it.
        what: what is wrong: ``numbers``, ``time``, ``algebra`` (a form of the program that means something else), or
            ``error`` where it raised.
        where: the tensor at which it shows.
        detail: the figures.
        remedy: how to do without it.
    """

    kind: Literal["pass", "kernel"]
    name: str
    what: Literal["numbers", "time", "error", "algebra"]
    where: str
    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: wrong {self.what} at {self.where}: {self.detail}; {self.remedy}"


def bisect(attempt: Attempt, *, slow: bool = False) -> list[Culprit]:
    """The culprits among the passes and the kernels of one compilation, in the order in which they act.

    Args:
        attempt: model, example inputs and options; ``verify`` and ``gate`` do not matter.
        slow: look for what takes longer than the operators that it replaces, too.

    Raises:
        UnsupportedModel: the model cannot be traced.
    """
    traced = trace(attempt.model, attempt.args, attempt.kwargs, attempt.dynamic_shapes)
    found = list(_passes(attempt, traced))
    try:
        build(attempt)
    except TpoptError:
        if found:
            return found
        raise
    assert attempt.built is not None
    found += _kernels(attempt)
    return found + (_slow(attempt) if slow else [])


def _tensors(attempt: Attempt, traced: Traced) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves((attempt.args, attempt.kwargs))
    given = [leaf.detach() for leaf, name in zip(leaves, traced.inputs, strict=True) if name is not None]
    return [*given, *(traced.weights[n].detach() for n in traced.states)]


def _passes(attempt: Attempt, traced: Traced) -> Iterator[Culprit]:
    inputs = _tensors(attempt, traced)
    program = traced.algebra
    known = _values(program, inputs)
    for what in registry().parse(attempt.options.pipeline).passes:
        remedy = "leave it out with -p, or exclude the module; please report it with tpopt repro"
        try:
            after = Pipeline((what,)).run(program)
            values = known if after is program else _values(after, inputs)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            yield Culprit(
                "pass", str(what), "error", program.outputs[0].name, f"{type(error).__name__}: {error}", remedy
            )
            return
        for stage in after.stages:
            wrong = next((d for o in stage.outs if (d := _differs(known.get(o.name), values.get(o.name)))), None)
            if wrong is not None:
                yield Culprit("pass", str(what), "numbers", stage.outs[0].name, wrong, remedy)
                break
        else:
            outputs = (o for o in after.outputs if _differs(known.get(o.name), values.get(o.name)))
            if (output := next(outputs, None)) is not None:
                yield Culprit("pass", str(what), "numbers", output.name, "an output has other numbers", remedy)
        program, known = after, values


def _values(program: Program, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every tensor of a program, in float64 where that is possible."""
    made = {t.name: t for stage in program.stages for t in stage.outs}
    outputs = tuple(made.values())
    wide = to_torch(Program(program.name, program.inputs, program.weights, program.stages, (*program.outputs, *outputs),
                            (), program.symbols, program.constants), dtype=torch.float64)  # fmt: skip
    with torch.no_grad():
        results = flatten_outputs(wide(*inputs))
    names = [t.name for t in (*program.outputs, *outputs)]
    return dict(zip(names, results, strict=True))


def _differs(known: torch.Tensor | None, value: torch.Tensor | None) -> str | None:
    """How two values of one name differ beyond rounding a constant."""
    if known is None or value is None:
        return None
    if known.shape != value.shape:
        return f"shape {list(value.shape)}, expected {list(known.shape)}"
    if not (known.is_floating_point() or known.is_complex()):
        count = int((known != value).sum())
        return f"{count} of {known.numel()} elements differ" if count > known.numel() // 100 else None
    if bool((known.isfinite() & ~value.isfinite()).any()):
        return "values that are finite became NaN or infinite"
    both = known.isfinite() & value.isfinite()
    wide = torch.complex128 if known.is_complex() else torch.float64
    off, size = ((torch.where(both, t, 0)).to(wide).norm().item() for t in (value.to(wide) - known.to(wide), known))
    floor = 1e-6 * math.sqrt(max(known.numel(), 1))
    return f"relative L2 difference {off / max(size, floor):.1e}" if off > WRONG * max(size, floor) else None


def _kernels(attempt: Attempt) -> list[Culprit]:
    """Kernels of the plan that do not compute their algebra on the values that reach them."""
    found = []
    assert attempt.traced is not None
    known = _values(attempt.traced.algebra, _tensors(attempt, attempt.traced))
    for stage, name, call, values, results in _run(attempt, known):
        if not isinstance(stage, Kernel) or not stage.defines:
            continue
        remedy = f"compile with kernels='library' or exclude the module; the plan calls it {stage.implementation}"
        if isinstance(results, str):
            found.append(Culprit("kernel", name, "error", call.outs[0], results, remedy))
            continue
        wanted = _algebra(stage, attempt, values)
        stray = next((n for n in wanted if _differs(known.get(n), wanted[n])), None)
        if stray is not None:
            detail = f"its algebra is another than the program's: {_differs(known[stray], wanted[stray])}"
            leave = "leave out the pass that offers it (derive, or one that strikes a bargain) with -p"
            found.append(Culprit("kernel", name, "algebra", stray, detail, leave))
            continue
        for out, result in zip(call.outs, results, strict=True):
            wrong = _differs(wanted.get(out), result)
            if wrong is not None:
                found.append(Culprit("kernel", name, "numbers", out, wrong, remedy))
                break
    return found


def _run(
    attempt: Attempt, known: Mapping[str, torch.Tensor]
) -> Iterator[tuple[Stage, str, Call, Mapping[str, torch.Tensor], list[torch.Tensor] | str]]:
    """Every step of the plan on what its inputs should be (``known``, else what the algebra before it says)."""
    assert attempt.built is not None
    assert attempt.traced is not None
    plan, binder = attempt.built.plan, attempt.built.specialization.binder
    inputs = _tensors(attempt, attempt.traced)
    values: dict[str, torch.Tensor] = dict(zip((t.name for t in plan.program.inputs), inputs, strict=True))
    values.update({n: t for n, t in binder.weights.items() if n not in values})
    for step in plan.steps:
        call = binder.bind(step.stage, attempt.sizes)
        args, kwargs = call.fill(lambda name: values[name])
        results: list[torch.Tensor] | str
        try:
            with inference():
                results = [t.clone() for t in flatten_outputs(call.function(*args, **kwargs))]
        except Exception as error:  # noqa: BLE001 - whatever a kernel raises
            results = f"{type(error).__name__}: {error}"
        yield step.stage, step.name, call, values, results
        if isinstance(step.stage, Kernel) and step.stage.defines:
            exact = {**_algebra(step.stage, attempt, values), **known}
            given = dict(zip(call.outs, results, strict=True)) if not isinstance(results, str) else {}
            for out in step.stage.outs:
                like = given.get(out.name, exact[out.name].to(torch_dtype(out.dtype)))
                values[out.name] = _laid_out(exact[out.name], like)
        elif not isinstance(results, str):
            values.update(zip(call.outs, results, strict=True))


def _laid_out(exact: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Exact values in the type and the memory layout in which a kernel hands them on."""
    made = torch.empty_like(like, memory_format=torch.preserve_format)
    return made.copy_(exact.reshape(like.shape)) if exact.numel() == like.numel() else like


def _algebra(stage: Kernel, attempt: Attempt, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a kernel should yield on these values, in float64 where that is possible."""
    assert attempt.traced is not None
    reads = tuple(dict.fromkeys(t for t in stage.reads if t.name in values))
    formulas = tuple(t for t in stage.reads if t.name not in values)
    program = Program("kernel", reads, formulas, stage.defines, stage.outs, (), attempt.traced.algebra.symbols)
    with torch.no_grad():
        results = flatten_outputs(to_torch(program, dtype=torch.float64)(*(values[t.name] for t in reads)))
    return dict(zip((o.name for o in stage.outs), results, strict=True))


def _slow(attempt: Attempt) -> list[Culprit]:
    """Kernels that take longer than the original operators between what they read and what they make."""
    assert attempt.traced is not None
    assert attempt.choice is not None
    makers = {o.name: s for s in attempt.traced.original.stages for o in s.outs}
    assert attempt.built is not None
    binder = attempt.built.specialization.binder
    originals = _original_values(attempt, binder)
    found = []
    picked = {c.name: c for c in attempt.choice.solution.picked}
    for stage, name, call, values, results in _run(attempt, {}):
        candidate = picked.get(name)
        if candidate is None or is_original(candidate) or candidate.kind == "layout" or isinstance(results, str):
            continue
        replaced = _between([t.name for t in stage_reads(stage)], [o.name for o in candidate.stage.outs], makers)
        calls = [binder.bind(makers[n], attempt.sizes) for n in replaced]
        if not calls or not all(r in originals for c in calls for r in c.refs()):
            continue
        seconds = _timed({"kernel": _thunk([call], values), "original": _thunk(calls, originals)})
        mine, theirs = seconds["kernel"], seconds["original"]
        if mine > SLOWER * theirs and mine - theirs > LEAST_SECONDS:
            detail = f"{mine * 1e6:.0f} µs instead of {theirs * 1e6:.0f} µs for {', '.join(replaced)}"
            remedy = "measure again (tpopt cache clear --records), or exclude the module"
            found.append(Culprit("kernel", name, "time", call.outs[0], detail, remedy))
    return found


def _between(reads: Sequence[str], outs: Sequence[str], makers: Mapping[str, Opaque | Any]) -> list[str]:
    """The original operators on the way from the tensors that are read to those that are made."""
    seen, found, pending = set(reads), list[str](), list(outs)
    while pending:
        name = pending.pop()
        if name not in seen and name in makers:
            seen.update(o.name for o in makers[name].outs)
            found.append(name)
            pending += [t.name for t in stage_reads(makers[name])]
    return found


def _original_values(attempt: Attempt, binder: Binder) -> dict[str, torch.Tensor]:
    assert attempt.traced is not None
    program = attempt.traced.original
    inputs = _tensors(attempt, attempt.traced)
    values = {**attempt.traced.weights, **dict(zip((t.name for t in program.inputs), inputs, strict=True))}
    with inference():
        for stage in program.stages:
            call = binder.bind(stage, attempt.sizes)
            args, kwargs = call.fill(lambda name: values[name])
            values.update(zip(call.outs, flatten_outputs(call.function(*args, **kwargs)), strict=True))
    return values


def _thunk(calls: Sequence[Call], values: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    bound = [(c.function, *c.fill(lambda name: values[name])) for c in calls]

    def run() -> None:
        for function, args, kwargs in bound:
            function(*args, **kwargs)

    return run


def _timed(calls: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    with inference():
        timings = interleave(calls, rounds=ROUNDS, stopwatch=Stopwatch(settle_s=0.0), budget_s=2.0)
    return {name: timings.median(name) for name in calls}
