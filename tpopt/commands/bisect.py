"""``tpopt bisect``: which pass, or which kernel, broke the numbers of a model, or slowed it."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands import compiling as asked
from tpopt.commands.output import emit, emit_json, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.errors import PerformanceRegression, VerificationFailed

if TYPE_CHECKING:
    from tpopt._compile.bisect import Culprit
    from tpopt.options import Options

Slow = Annotated[
    bool, typer.Option("--slow", help="Look for kernels slower than the operators that they replace, too.")
]


def bisect(
    target: asked.TargetArgument,
    *,
    slow: Slow = False,
    effort: asked.Effort = "balanced",
    choice: asked.Choice = "measured",
    kernels: asked.Kernels = "all",
    pipeline: asked.Pipeline = "default",
    exclude: asked.Exclude = None,
    records: asked.Records = None,
    seed: asked.Seed = 0,
    trust: asked.Trust = False,
    as_json: asked.AsJson = False,
) -> None:
    """Name the pass or kernel that is wrong, or slow.

    Every pass is compared with the program before it, every kernel of the plan with the algebra that it stands for.
    Ends with 0 where nothing is wrong, with 4 where numbers are, with 5 where only time is.
    """
    options = asked.options_of(
        effort=effort, no_verify=True, no_gate=True, exclude=exclude, choice=choice, kernels=kernels,
        pipeline=pipeline, records=records, seed=seed,
    )  # fmt: skip
    asked.announce(target, trust=trust)
    with stdout_is_stderr():
        found = _culprits(target, options, trust=trust, slow=slow)
    if as_json:
        emit_json({"culprits": [dataclasses.asdict(c) for c in found]})
    else:
        emit("\n".join(map(str, found)) or "every pass and every kernel computes what it should")
    wrong = [c.name for c in found if c.what != "time"]
    if wrong:
        raise VerificationFailed(f"wrong: {', '.join(wrong)}")
    if found:
        raise PerformanceRegression(f"slow: {', '.join(c.name for c in found)}")


def _culprits(spec: str, options: Options, *, trust: bool, slow: bool) -> list[Culprit]:
    from tpopt._compile.attempt import Attempt
    from tpopt._compile.bisect import bisect as search
    from tpopt._compile.door import positional

    target = load_target(spec, trust=trust)
    args = positional(target.inputs)
    attempt = Attempt(target.model, args, dict(target.kwargs or {}), None, options, time.perf_counter())
    return search(attempt, slow=slow)
