"""What a budget buys: the fastest plan whose error the user admits, found by prediction and admitted by measurement.

Errors of single values are measured (:mod:`tpopt.sensitivity.output_error`), the chooser adds their squares up, and the
finished plan is verified like any other, with the budget as its tolerance, and on the user's own metric. Where it
fails, the sum it may spend is bisected over the values' errors, back towards the exact plan.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, log2
from typing import TYPE_CHECKING, Final

from tpopt._compile.check import verify_plan
from tpopt._compile.derivations import all_proved
from tpopt._compile.metric import Judge
from tpopt.choose.accuracy import AccuracyBudget, Errors
from tpopt.choose.choose import Choice, solved
from tpopt.errors import InvalidProgram, VerificationFailed
from tpopt.ir import Kernel
from tpopt.ir.aten import torch_dtype
from tpopt.log import record
from tpopt.passes.precision.storage import Storage
from tpopt.report import ParetoRow
from tpopt.rewrite.numerics import Numerics
from tpopt.runtime.compiled import Specialization, State
from tpopt.sensitivity.output_error import OutputErrors

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.choose.candidate import Candidate

SPARE: Final = 0.9
"""Aim at this part of the admitted error: predictions are first-order."""
MEASURING_SHARE: Final = 0.3
"""Part of the time that is left which measuring the errors of values may take."""
FURTHER: Final = 3
"""Plans tried beyond what a bisection over the values takes."""


@dataclass
class Found:
    """The best plan within the budget so far, what was tried, and what may be spent."""

    choice: Choice
    special: Specialization
    rows: list[ParetoRow] = field(default_factory=list)


def approximated(attempt: Attempt, special: Specialization, state: State) -> Found | None:
    """The fastest plan that holds the budget where it is predicted to be faster than the exact one, else ``None``.

    ``special`` is the verified exact plan. ``attempt.verification`` is that of the plan returned.
    """
    exact = attempt.choice
    assert exact is not None
    accuracy = accuracy_of(attempt, exact, special)
    accuracy.measured(exact.found)
    levels = sorted({e for errors in accuracy.known.values() if errors for e in [max(errors)]})
    if not levels:
        return None
    return _Search(attempt, special, state, exact, accuracy, list(accumulate(levels))).run()


def accuracy_of(attempt: Attempt, exact: Choice, special: Specialization) -> AccuracyBudget:
    """The errors of narrow values, measured on the example inputs and the calibration data."""
    assert attempt.traced is not None
    until = time.perf_counter() + MEASURING_SHARE * max(attempt.deadline - time.perf_counter(), 0.0)
    stages = [c.stage for c in exact.found.admitted if _measures(c)]
    errors = OutputErrors(attempt.traced.original, stages, special.binder, attempt.sizes, attempt.samples, until)

    def measure(name: str, storage: Storage) -> Errors | None:
        dtype = torch_dtype(storage.dtype)
        return errors.of(storage.origin[name], lambda t: t.to(dtype).to(t.dtype))

    return AccuracyBudget(attempt.storages, measure)


def _measures(candidate: Candidate) -> bool:
    """Whether a kernel may stand for the algebra between values: exact, and of a library."""
    exact = candidate.numerics is not Numerics.APPROXIMATE
    return exact and isinstance(candidate.stage, Kernel) and candidate.kind not in ("layout", "generated")


class _Search:
    def __init__(
        self,
        attempt: Attempt,
        special: Specialization,
        state: State,
        exact: Choice,
        accuracy: AccuracyBudget,
        levels: list[float],
    ) -> None:
        self._attempt, self._special, self._state, self._exact = attempt, special, state, exact
        self._accuracy, self._levels = accuracy, levels
        self._best: Found | None = None
        self._rows: list[ParetoRow] = []
        self._judge = Judge.of(attempt)

    def run(self) -> Found | None:
        """Tries the whole budget, then bisects over the levels."""
        budget, tried = self._attempt.budget, 0
        most = ceil(log2(len(self._levels) + 1)) + FURTHER
        low, limit = 0.0, self._levels[-1]
        if budget.max_error is not None:
            limit = min(limit, (SPARE * budget.max_error) ** 2)
        proved = self._attempt.verification
        while tried < most and limit > low and (tried == 0 or time.perf_counter() < self._attempt.deadline):
            tried += 1
            choice = self._choice(limit)
            if choice is None or self._picks_nothing(choice):
                break
            error = self._admitted(choice, limit)
            if error is None:
                assert self._best is not None
                proved, low = self._attempt.verification, limit
                break
            limit = self._less(limit, error)
        self._attempt.verification = proved
        if self._best is not None:
            self._best.rows = self._rows
        return self._best

    def _less(self, limit: float, error: float) -> float:
        """A smaller sum to spend: by the ratio of the errors where they say enough, else half of the levels."""
        budget = self._attempt.budget
        position = bisect_right(self._levels, limit)
        halved = self._levels[position // 2 - 1] if position >= 2 else 0.0
        if budget.max_error is not None and error > budget.max_error:
            return min(limit * (SPARE * budget.max_error / error) ** 2, limit / 2)
        return halved

    def _choice(self, limit: float) -> Choice | None:
        exact, traced = self._exact, self._attempt.traced
        assert traced is not None
        rows = self._accuracy.rows(exact.found.admitted, limit)
        try:
            choice = solved(traced.original, self._attempt.forms, exact.found, exact.prices, rows)
        except InvalidProgram:
            return None
        return choice if all_proved(self._attempt.history, choice.solution.picked) else None

    def _picks_nothing(self, choice: Choice) -> bool:
        return all(c.numerics is not Numerics.APPROXIMATE for c in choice.solution.picked)

    def _admitted(self, choice: Choice, limit: float) -> float | None:
        """``None`` when the plan holds the budget, and is the best then; else its error."""
        attempt, old = self._attempt, self._special
        special = Specialization(choice.plan, old.binder, old.signature, old.states, old.guard)
        attempt.choice, predicted = choice, self._accuracy.predicted(choice.solution.picked) ** 0.5
        drop, problem = None, ""
        try:
            verify_plan(attempt, special, self._state)
            drop, problem = self._judge.drop(attempt, special, self._state)
        except VerificationFailed as error:
            problem = str(error).split("\n")[0]
        finally:
            attempt.choice = self._exact
        row = attempt.verification
        measured = row.l2_rel if row is not None and row.l2_rel is not None else float("inf")
        self._rows.append(
            ParetoRow(
                predicted_us=choice.solution.total_us, predicted_error=predicted, measured_error=measured, drop=drop,
                weights_bytes=None, status="refused" if problem else "admitted", note=problem,
            )
        )  # fmt: skip
        record("approximate", "tried", limit=limit, predicted=predicted, measured=measured, problem=problem)
        if problem:
            return measured
        self._best = Found(choice, special)
        return None
