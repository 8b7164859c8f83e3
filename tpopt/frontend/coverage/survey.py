"""The survey: every core operator (and every other that has a lowering), traced, run and measured."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tpopt.errors import InvalidProgram, TpoptError
from tpopt.frontend.coverage.calls import Call
from tpopt.frontend.coverage.comparison import failure, opaque_calls, traced_call
from tpopt.frontend.coverage.effort import aten_steps, growth, operations, steps
from tpopt.frontend.coverage.opinfo import recorded_calls, sample_entries
from tpopt.frontend.coverage.others import OTHERS
from tpopt.frontend.coverage.samples import SAMPLES, Make
from tpopt.frontend.coverage.table import SIZES, Coverage, Row
from tpopt.frontend.registry import lowerings
from tpopt.frontend.trace import Traced
from tpopt.ir.aten import resolve


def core_overloads() -> tuple[str, ...]:
    """Core ATen overloads of this torch, sorted."""
    registered = torch._C._dispatch_get_all_op_names()  # noqa: SLF001 - dir() lists only what has been used already
    schemas = sorted(n for n in registered if n.startswith("aten::"))
    names = (n.replace("::", ".", 1) for n in schemas)
    targets = (n if n.count(".") == 2 else f"{n}.default" for n in names)
    return tuple(t for t in targets if _is_core(t))


def _is_core(target: str) -> bool:
    try:
        return torch.Tag.core in resolve(target).tags
    except InvalidProgram:  # a schema that torch keeps without an operator
        return False


def coverage(
    check: bool = True, only: Sequence[str] | None = None, progress: Callable[[str, float], None] | None = None
) -> Coverage:
    """Tries the sample calls of each operator: torch's OpInfo where it ships them, and our own at each of ``SIZES``.

    Args:
        check: also run the algebra and compare it with torch.
        only: operators to survey; all core ones and all that have a lowering by default.
        progress: called with the operator's name and the part of the survey that is done.
    """
    core = core_overloads()
    names = tuple(only) if only is not None else (*core, *(t for t in sorted(lowerings()) if t not in core))
    rows: list[Row] = []
    with warnings.catch_warnings(), _settled():
        warnings.simplefilter("ignore")  # what torch says about its own samples
        calls = recorded_calls(names, namesakes=only is not None)
        for number, name in enumerate(names):
            if progress is not None:
                progress(name, number / len(names))
            rows.append(_row(name, name in core, calls.get(name, ()), check))
    return Coverage(tuple(rows), check)


@contextmanager
def _settled() -> Iterator[None]:
    """Collections leave alone what lives on: looking through torch's samples again and again takes half the time."""
    sample_entries()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass
class _Tally:
    """What becomes of one operator's sample calls."""

    name: str
    check: bool
    tried: int = 0
    algebra: int = 0
    passed: int = 0
    reason: str = ""
    failure: str = ""

    def take(self, call: Call) -> Traced | None:
        """Traces a call and compares it with torch; returns the trace where it is algebra."""
        self.tried += 1
        try:
            traced = traced_call(self.name, call)
        except TpoptError as refusal:
            self.reason = self.reason or str(refusal).splitlines()[0]
            return None
        whole = next(opaque_calls(traced.algebra.stages), None)
        if whole is not None:
            self.reason = self.reason or traced.reasons.get(whole.outs[0].name if whole.outs else "", whole.target)
            return None
        self.algebra += 1
        differs = failure(self.name, call, traced) if self.check else ""
        self.passed += self.check and not differs
        self.failure = self.failure or differs
        return traced


def _row(name: str, core: bool, calls: Iterable[Call], check: bool) -> Row:
    tally = _Tally(name, check)
    for call in calls:
        tally.take(call)
    make = SAMPLES.get(name) or OTHERS.get(name)
    taken = [] if make is None else [(c, tally.take(c)) for c in (_sized(make, size) for size in SIZES)]
    both = [(t.algebra, aten_steps(name, c)) for c, t in taken if t is not None]
    if len(both) < len(SIZES):
        return Row(name, core, tally.tried, tally.algebra, tally.passed, (), tally.reason, tally.failure)
    work, operated = (tuple(count(p, {}) / aten for p, aten in both) for count in (steps, operations))
    faster = max(growth(work), growth(operated))
    return Row(name, core, tally.tried, tally.algebra, tally.passed, work, tally.reason, tally.failure, faster)


def _sized(make: Make, size: int) -> Call:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(size)
