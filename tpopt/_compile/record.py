"""What one attempt found, as the rows of a Report."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from tpopt._compile.attempt import Attempt
from tpopt._compile.derivations import derivation_rows
from tpopt._compile.effort import work_of
from tpopt.backend.plan import LAYOUT_SUFFIX, Plan
from tpopt.choose.candidate import Refused
from tpopt.choose.cover import Choice
from tpopt.ir import Opaque, Program
from tpopt.report import (
    CandidateRow,
    CoverRow,
    DerivationRow,
    KernelRow,
    MemoryRow,
    OpaqueRow,
    PassRow,
    RefusalRow,
    Report,
    ResultRow,
    VerificationRow,
    record_environment,
)


def report_of(attempt: Attempt, result: ResultRow) -> Report:
    """The report of a finished attempt."""
    optimized = result.status == "optimized" and attempt.built is not None
    plan = attempt.built.plan if optimized and attempt.built is not None else None
    return Report(
        result=result,
        environment=record_environment(threads=torch.get_num_threads(), options=_options(attempt)),
        work=work_of(attempt, plan),
        kernels=() if plan is None else _kernels(attempt, plan),
        opaque=_opaque(attempt),
        passes=_passes(attempt),
        derivations=_derivations(attempt) if optimized else (),
        verification=attempt.verification or VerificationRow(),
        memory=_memory(attempt) if optimized else MemoryRow(),
        pareto=attempt.pareto,
        choice=() if attempt.choice is None else _covers(attempt, attempt.choice),
        original_share=1.0 if plan is None else _original_share(plan),
        compile_seconds=attempt.seconds,
    )


def _options(attempt: Attempt) -> dict[str, object]:
    fields = dataclasses.fields(attempt.options)
    return {f.name: getattr(attempt.options, f.name) for f in fields if f.name != "progress"}


def _lines(attempt: Attempt, names: tuple[str, ...]) -> tuple[str, ...]:
    origins: dict[str, Any] = {}
    for program in (attempt.cleaned, attempt.traced.algebra if attempt.traced else None):
        if isinstance(program, Program):
            origins.update(program.origins)
    return tuple(dict.fromkeys(line for n in names if n in origins for line in origins[n].lines))


def _kernels(attempt: Attempt, plan: Plan) -> tuple[KernelRow, ...]:
    second = {} if attempt.choice is None else _second(attempt.choice)
    return tuple(
        KernelRow(
            kind=step.kind,
            name=step.name,
            source=_lines(attempt, tuple(o.name.removesuffix(LAYOUT_SUFFIX) for o in step.stage.outs)),
            predicted_us=step.predicted_us,
            measured_us=step.measured_us,
            next_best=second[step.name][1] if step.name in second else "",
            next_best_us=second[step.name][0] if step.name in second else None,
        )
        for step in plan.steps
    )


def _second(choice: Choice) -> dict[str, tuple[float, str]]:
    """For each picked candidate, price and name of the cheapest other one that makes the same values of the same."""
    rivals: dict[Any, list[tuple[float, str]]] = {}
    for candidate in choice.found.admitted:
        us = choice.prices[candidate.key].us
        rivals.setdefault((frozenset(candidate.needs), candidate.produces), []).append((us, candidate.name))
    found = {}
    for picked in choice.solution.picked:
        others = [r for r in rivals[frozenset(picked.needs), picked.produces] if r[1] != picked.name]
        if others:
            found[picked.name] = min(others)
    return found


def _original_share(plan: Plan) -> float:
    times = [(s.kind, s.measured_us if s.measured_us is not None else s.predicted_us or 0.0) for s in plan.steps]
    total = sum(us for _, us in times)
    return sum(us for kind, us in times if kind in ("original", "view")) / total if total else 0.0


def _opaque(attempt: Attempt) -> tuple[OpaqueRow, ...]:
    if attempt.traced is None:
        return ()
    return tuple(
        OpaqueRow(
            target=stage.target,
            name=stage.outs[0].name if stage.outs else stage.target,
            source=_lines(attempt, tuple(o.name for o in stage.outs)),
            reason=attempt.traced.reasons.get(stage.outs[0].name if stage.outs else "", ""),
        )
        for stage in attempt.traced.algebra.stages
        if isinstance(stage, Opaque)
    )


def _passes(attempt: Attempt) -> tuple[PassRow, ...]:
    return tuple(
        PassRow(
            name=row["name"],
            applied=row["applied"],
            refused=tuple(RefusalRow(**r) for r in row["refused"]),
            seconds=attempt.timing.seconds.get(row["name"], 0.0),
        )
        for row in attempt.history.to_dict()
    )


def _derivations(attempt: Attempt) -> tuple[DerivationRow, ...]:
    return () if attempt.choice is None else derivation_rows(attempt.history, attempt.choice.solution.picked)


def _memory(attempt: Attempt) -> MemoryRow:
    assert attempt.built is not None
    special = attempt.built.specialization
    known = special.binder.weights  # a weight that is a formula has no memory of its own
    used = [known[w.name] for w in special.plan.program.weights if w.name in known]
    weights = sum(t.numel() * t.element_size() for t in used)
    memory = special.memory
    return MemoryRow(
        arena_bytes=memory.arena_bytes,
        owned_peak_bytes=memory.owned_peak_bytes,
        weights_bytes=weights + special.binder.packed_bytes,
    )


def _covers(attempt: Attempt, choice: Choice) -> tuple[CoverRow, ...]:
    """One row for each value that has more than one way to be produced, in the order of the candidates."""
    groups: dict[str, list[Any]] = {}
    for candidate in choice.found.admitted:
        if candidate.kind != "layout" and candidate.produces:
            groups.setdefault(candidate.produces[0].name, []).append(candidate)
    unbuilt = (Refused(c.name, c.kind, c.covers, reason) for c, reason in choice.found.unbuilt.items())
    for refused in (*choice.found.refused, *unbuilt):
        if refused.covers:
            groups.setdefault(refused.covers[-1], []).append(refused)
    picked = {c.name for c in choice.solution.picked}
    return tuple(_cover(attempt, choice, name, rows, picked) for name, rows in groups.items() if len(rows) > 1)


def _why_lost(choice: Choice) -> str:
    cheaper = "another cover is cheaper over the whole program"
    return f"{cheaper} within what verification admits of accuracy" if choice.spending else cheaper


def _cover(attempt: Attempt, choice: Choice, name: str, rows: list[Any], picked: set[str]) -> CoverRow:
    candidates = []
    for row in rows:
        if hasattr(row, "reason"):
            candidates.append(
                CandidateRow(name=row.name, kind=row.kind, price_us=None, status="refused", reason=row.reason)
            )
            continue
        price = choice.prices[row.key]
        chosen = row.name in picked
        candidates.append(
            CandidateRow(
                name=row.name, kind=row.kind, price_us=price.us, low_us=price.low, high_us=price.high,
                predicted_us=price.predicted if price.measured else price.us, status="chosen" if chosen else "lost",
                reason="" if chosen else _why_lost(choice),
            )
        )  # fmt: skip
    winner = next((c.name for c in candidates if c.status == "chosen"), "")
    reason = "part of the cheapest cover of the whole program" if winner else "computed inside a wider cover"
    return CoverRow(
        cover=(name,), source=_lines(attempt, (name,)), candidates=tuple(candidates), chosen=winner, reason=reason
    )
