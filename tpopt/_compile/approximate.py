"""What a budget buys: the fastest plan whose error the user admits, found by prediction and admitted by measurement.

Errors of single values are measured (:mod:`tpopt.sensitivity.output_error`), the chooser adds their squares up, and the
finished plan is verified like any other, with the budget as its tolerance, and on the user's own metric. Where it
fails, the sum it may spend is bisected over the values' errors, back towards the exact plan.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from math import ceil, log2
from typing import TYPE_CHECKING, Final

import torch

from tpopt._compile.bounds import all_held, holding, weights_of
from tpopt._compile.check import verify_plan
from tpopt._compile.metric import Judge
from tpopt.choose.accuracy import AccuracyBudget, Errors
from tpopt.choose.cover import Choice, solved
from tpopt.errors import InvalidProgram, LimitExceeded, VerificationFailed
from tpopt.ir import Compute, Kernel, Program
from tpopt.ir.aten import torch_dtype
from tpopt.ir.walk import stage_reads
from tpopt.log import record
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage
from tpopt.report import ParetoRow
from tpopt.rewrite.contraction import contraction
from tpopt.rewrite.numerics import Numerics
from tpopt.rewrite.stages import constant_tensors
from tpopt.runtime.compiled import Specialization, State
from tpopt.sensitivity.output_error import Change, OutputErrors

if TYPE_CHECKING:
    from collections.abc import Container

    from tpopt._compile.attempt import Attempt
    from tpopt.backend.binding import Binder
    from tpopt.choose.candidate import Candidate, Candidates
    from tpopt.choose.solve import Holding
    from tpopt.report import VerificationRow

SPARE: Final = 0.9
"""Aim at this part of the admitted error: predictions are first-order."""
MEASURING_SHARE: Final = 0.3
"""Part of the time that is left which measuring the errors of values may take."""
LEAST_SECONDS: Final = 5.0
WORTH: Final = 0.01
"""Where memory alone is bounded, an error of this size counts as much as all the time that the model takes."""
STEEPEST: Final = 5
"""Doublings of the price on bytes, up and down from where all constants count as much as all the time."""
FURTHER: Final = 1
"""Plans tried beyond what a bisection over the layers takes, those apart from families not counted."""


@dataclass
class Found:
    """A plan within the budget; ``others`` do without one of the families that it uses, by its name."""

    choice: Choice
    special: Specialization
    verification: VerificationRow | None
    others: dict[str, Found] = field(default_factory=dict)


def approximated(attempt: Attempt, special: Specialization, state: State) -> Found | None:
    """The fastest plan that holds the budget where it is predicted to be faster than the exact one, else ``None``.

    ``special`` is the verified exact plan. ``attempt.verification`` is that of the plan returned; ``attempt.pareto``
    lists what was tried, the exact plan first.
    """
    exact = attempt.choice
    assert exact is not None
    accuracy = accuracy_of(attempt, exact)
    accuracy.measured(exact.found)
    levels = sorted({e for errors in accuracy.known.values() if errors for e in [max(errors)]})
    if not levels:
        return None
    return _Search(attempt, special, state, exact, accuracy, list(accumulate(levels))).run()


def errors_of(attempt: Attempt, found: Candidates, binder: Binder) -> OutputErrors:
    """What measures errors on the example inputs and the calibration data, for a part of the time that is left."""
    assert attempt.traced is not None
    share = MEASURING_SHARE * (attempt.deadline - time.perf_counter())
    stages = [c.stage for c in found.admitted if _measures(c)]
    until = time.perf_counter() + max(share, LEAST_SECONDS)
    return OutputErrors(attempt.traced.original, stages, binder, attempt.sizes, attempt.samples, until)


def accuracy_of(attempt: Attempt, exact: Choice) -> AccuracyBudget:
    """The errors of narrow values and of factorized weights."""
    errors, factors = attempt.errors, attempt.factors
    assert errors is not None
    assert factors is not None
    narrow = {name for storage in attempt.storages for name in storage.origin}
    known = set(errors.kernels)
    errors.extend([c.stage for c in exact.found.admitted if _measures(c, narrow) and c.stage not in known])
    errors.deadline = max(errors.deadline, time.perf_counter() + LEAST_SECONDS)

    def measure(name: str, storage: Storage) -> Errors | None:
        return errors.of(storage.origin[name], _rounding(storage, name))

    return AccuracyBudget(attempt.storages, measure, dict(factors.errors))


def _rounding(storage: Storage, name: str) -> Change:
    """What storing does to the numbers of a tensor whose narrow form has that name."""
    if isinstance(storage, Quantized):
        return lambda t: torch.from_numpy(storage.rounded(name, t.numpy())).to(t.dtype)
    dtype = torch_dtype(storage.dtype)
    return lambda t: t.to(dtype).to(t.dtype)


def label_approximations(attempt: Attempt, found: Candidates) -> None:
    """Labels whatever reads a constant that approximates another."""
    names = {} if attempt.factors is None else attempt.factors.errors
    wide = {n: t.name for s in attempt.storages for n, t in s.origin.items()}
    if names:
        found.admitted = [
            replace(c, numerics=Numerics.APPROXIMATE)
            if any(wide.get(t.name, t.name) in names for t in stage_reads(c.stage))
            else c
            for c in found.admitted
        ]


def _measures(candidate: Candidate, narrow: Container[str] = ()) -> bool:
    """Whether a kernel may stand for the algebra between values: of a library, on values that are not narrow."""
    if not isinstance(candidate.stage, Kernel) or candidate.kind in ("layout", "convert", "generated"):
        return False
    return not any(t.name in narrow for t in (*stage_reads(candidate.stage), *candidate.stage.outs))


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
        row = attempt.verification
        self._rows = [
            ParetoRow(
                predicted_us=exact.solution.total_us, predicted_error=0.0,
                measured_error=None if row is None else row.l2_rel, drop=None,
                weights_bytes=weights_of(exact.plan, special.binder.weights), status="admitted", note="exact",
            )
        ]  # fmt: skip
        self._judge = Judge.of(attempt, state)
        free = attempt.budget.max_error is None and attempt.budget.max_drop is None
        self._least_price = exact.solution.total_us / WORTH**2 if free else 0.0
        self._holding = holding(attempt, exact.found, special.binder.weights)
        if attempt.budget.latency_ms is not None and attempt.budget.weights_bytes is None:
            self._holding = self._smallest(1e3 * SPARE * attempt.budget.latency_ms)

    def run(self) -> Found | None:
        """Tries the whole budget; where it fails, bisects over the levels between what failed and what did not."""
        levels = self._levels
        limit = self._whole()
        low, high = 0, len(levels) + 1  # levels[:low] are admitted together, levels[:high] are not
        places = min(len(levels), _layers(self._attempt.forms[0]))
        for tried in range(ceil(log2(places + 1)) + FURTHER):
            if tried and time.perf_counter() > self._attempt.deadline:
                break
            choice = self._choice(limit)
            if choice is None and not tried and self._holding is not None:
                raise self._too_small()
            error = None if choice is None else self._admitted(choice)
            if error is None and not tried:
                break
            place = bisect_right(levels, limit)
            low, high = (max(low, place), high) if error is None else (low, min(high, place))
            if high - low <= 1:
                break
            limit = self._next(low, high, limit, error)
        self._apart(self._whole())
        self._attempt.pareto = tuple(self._rows)
        return self._best

    def _whole(self) -> float:
        """The sum of squared errors that the whole budget admits."""
        most = self._attempt.budget.max_error
        return float("inf") if most is None else (SPARE * most) ** 2

    def _apart(self, limit: float) -> None:
        """Plans without one of the families that the best uses, or that the budget did not admit together.

        Prices of single kernels do not add up to the time of a plan, and one family's errors may take what another's
        would have been worth. The race decides.
        """
        best = self._best
        others: dict[str, Found] = {}
        for family, members in self._families().items():
            if not members or (best is not None and members.isdisjoint(best.choice.solution.picked)):
                continue
            if time.perf_counter() > self._attempt.deadline:
                break
            choice = self._choice(limit, members)
            found = None if choice is None else self._alone(choice)
            if found is not None:
                others[f"without {family}"] = found
        if best is None and others:
            best = others.pop(next(iter(others)))
        self._best = best
        if best is not None:
            best.others, self._attempt.verification = others, best.verification

    def _alone(self, choice: Choice) -> Found | None:
        """The plan of a choice, if it holds the budget."""
        self._best = None
        self._admitted(choice)
        return self._best

    def _families(self) -> dict[str, frozenset[Candidate]]:
        """The candidates that need codes, and those that read factorized weights."""
        admitted = self._exact.found.admitted
        codes = {n for s in self._attempt.storages if isinstance(s, Quantized) for n in s.origin}
        coded = {c for c in admitted if codes.intersection(v.name for v in (*c.needs, *c.produces))}
        coded |= {c for c in admitted if codes.intersection(t.name for t in stage_reads(c.stage))}
        factored = {c for c in admitted if self._accuracy.approximating(c)}
        return {"codes": frozenset(coded), "factors": frozenset(factored)}

    def _next(self, low: int, high: int, limit: float, error: float | None) -> float:
        """The next sum to try: by the ratio of the errors where that says enough, else in the middle."""
        most = self._attempt.budget.max_error
        if error is not None and most is not None and error > most:
            guess = limit * (SPARE * most / error) ** 2
            if low < bisect_right(self._levels, guess) < high:
                return guess
        return self._levels[max((low + high) // 2 - 1, 0)]

    def _smallest(self, most_us: float) -> Holding | None:
        """The dearest price on bytes with which a cover is expected to stay within a time; None where none does."""
        weights = self._special.binder.weights
        own = all_held(self._exact.found, weights)
        scale = self._exact.solution.total_us / max(sum(own.sizes.values()), 1)
        best = None
        for power in range(-STEEPEST, STEEPEST + 1):
            self._holding = replace(own, price=scale * 2.0**power)
            choice = self._priced(0.0)
            if choice is None or choice.solution.total_us > most_us:
                break
            best = self._holding
        return best

    def _choice(self, limit: float, without: frozenset[Candidate] = frozenset()) -> Choice | None:
        priced = partial(self._priced, without=without)
        choice = self._accuracy.cheapest(limit, priced, self._exact.solution.total_us)
        return choice if choice and self._attempt.prover.all_proved(choice.solution.picked) else None

    def _too_small(self) -> LimitExceeded:
        """The error where no plan has so few bytes of constants within the budget for accuracy."""
        assert self._holding is not None
        limit, self._holding = self._holding.limit, replace(self._holding, limit=float("inf"), price=1.0)
        self._least_price = 0.0
        least = self._priced(0.0)
        found = "none" if least is None else f"{weights_of(least.plan, self._special.binder.weights):,}"
        return LimitExceeded(
            f"budget {self._attempt.budget}: no plan has constants of {limit:,.0f} bytes or fewer; the least that is "
            f"feasible is weights_bytes={found}"
        )

    def _priced(self, price: float, without: frozenset[Candidate] = frozenset()) -> Choice | None:
        exact, attempt = self._exact, self._attempt
        assert attempt.traced is not None
        found = replace(exact.found, admitted=[c for c in exact.found.admitted if c not in without])
        penalties = self._accuracy.penalties(found.admitted, price + self._least_price)
        original, forms = attempt.traced.original, attempt.forms
        try:
            choice = solved(
                original, forms, found, exact.prices, approximate=True, penalties=penalties, holding=self._holding
            )
        except InvalidProgram:
            return None
        return replace(choice, found=exact.found)  # the report names what was left out, too

    def _admitted(self, choice: Choice) -> float | None:
        """``None`` when the plan holds the budget, and is the best then; else its error."""
        attempt, old, before = self._attempt, self._special, self._attempt.verification
        exact = all(c.numerics is not Numerics.APPROXIMATE for c in choice.solution.picked)
        if exact and self._holding is None:
            return None  # the exact plan is there already
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
                weights_bytes=weights_of(choice.plan, old.binder.weights),
                status="refused" if problem else "admitted", note=problem,
            )
        )  # fmt: skip
        record("approximate", "tried", predicted=predicted, measured=measured, problem=problem)
        if problem:
            attempt.verification = before
            return measured
        self._best = Found(choice, special, row)
        return None


def _layers(program: Program) -> int:
    """Sums of products with a weight."""
    constants = constant_tensors(program)
    matches = (contraction(s) for s in program.stages if isinstance(s, Compute))
    return sum(m is not None and bool(m.weights(constants)) for m in matches)
