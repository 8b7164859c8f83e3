"""One model of a suite, benched in this process."""

from __future__ import annotations

import importlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tpopt.bench.config import BenchConfig
from tpopt.bench.peers import Case, Contestant, build_peer
from tpopt.bench.run import Row
from tpopt.bench.settings import apply_settings
from tpopt.bench.suites import Factory
from tpopt.errors import UsageError, VerificationFailed
from tpopt.measure import Stopwatch, interleave

WRONG = 1e-2
"""Relative L2 error beyond which a peer computes something else, and its times mean nothing."""


def bench_model(name: str, factory: Factory, config: BenchConfig) -> Row:
    """Compiles, checks and times one model; returns its row.

    Raises:
        TpoptError: tpopt refuses the model; other errors are the suite's or defects.
    """
    import torch
    from torch.utils import _pytree

    from tpopt.bench.reference import l2_rel_err, reference_outputs

    settings = apply_settings(config.threads, config.allocator)
    model, inputs = factory()
    model = model.to(config.device)
    inputs = _pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to(config.device), inputs)
    reference, kind = reference_outputs(model, inputs)

    rounds = config.timed_rounds()
    with torch.no_grad():
        ours, report = _compile(model, inputs, config)
        case = Case(model, inputs, torch.get_num_threads())
        peers = [build_peer(peer, case) for peer in (config.peers if rounds else ("eager",))]
        errors = {c.name: l2_rel_err(c.call(), reference) for c in (ours, *peers) if c.call is not None}
        if not math.isfinite(errors["tpopt"]):
            raise VerificationFailed("the outputs differ in structure, shape, integers or where they are finite")
        peers = [_unless_wrong(peer, errors.get(peer.name, 0.0)) for peer in peers]
        row = _facts(name, report, ours) | {
            "settings": settings,
            "reference": kind,
            "l2_rel_err": errors["tpopt"],
            "errors": {name: error for name, error in errors.items() if math.isfinite(error)},
            "peers": {peer.name: peer.to_dict() for peer in peers},
        }
        return row | (_times((ours, *peers), rounds, config.device) if rounds else {})


def resolve_compiler(spec: str) -> Callable[..., Any]:
    """Returns the function that ``"module:function"`` names.

    Raises:
        UsageError: there is no such module or function.
    """
    module, _, function = spec.partition(":")
    try:
        compiler: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"compiler={spec!r}: expected module:function ({error})") from error
    return compiler


def failed_row(name: str, reason: str, exit_code: int = 1) -> Row:
    """Returns the row of a model that has no result."""
    return _empty(name) | {"status": "failed", "reason": reason, "exit_code": exit_code}


def _empty(name: str) -> Row:
    return {
        "name": name,
        "status": "ok",
        "reason": None,
        "times_ms": {},
        "ratio": {},
        "rounds": 0,
        "l2_rel_err": None,
        "tolerance": None,
        "errors": {},
        "reference": None,
        "opaque": [],
        "original_share": None,
        "kernels": {},
        "compile_s": None,
        "result": {},
        "work": {},
        "memory": {},
        "peers": {},
        "settings": {},
    }


def _compile(model: Any, inputs: tuple[Any, ...], config: BenchConfig) -> tuple[Contestant, dict[str, Any]]:
    compiler = resolve_compiler(config.compiler)
    started = time.perf_counter()
    timed = config.choice == "measured"  # counted figures must not depend on how this machine's kernels round
    budget = {} if config.budget is None else {"budget": config.budget}
    options = {"effort": config.effort, "choice": config.choice, "gate": timed, "verify": timed, **budget}
    fast = compiler(model, inputs, **options)
    seconds = time.perf_counter() - started
    return Contestant("tpopt", "ok", lambda: fast(*inputs), build_s=seconds), fast.report.to_dict()


def _unless_wrong(peer: Contestant, error: float) -> Contestant:
    """Takes a peer that computes something else out of the race; tpopt's own error is for the reader to judge."""
    return peer if error <= WRONG else peer.failed(f"wrong output: relative L2 error {error:.1e}")


def _facts(name: str, report: dict[str, Any], ours: Contestant) -> Row:
    """Returns the row of a compiled model, before anything is timed."""
    kinds = Counter(kernel["kind"] for kernel in report["kernels"])
    return _empty(name) | {
        "opaque": report["opaque"],
        "original_share": report["original_share"],
        "kernels": {kind: kinds[kind] for kind in sorted(kinds)},
        "compile_s": ours.build_s,
        "tolerance": report["verification"]["tolerance"],
        "result": report["result"],
        "work": report["work"],
        "memory": report["memory"],
    }


def _times(racers: Sequence[Contestant], rounds: int, device: str) -> Row:
    import torch

    calls = {racer.name: racer.call for racer in racers if racer.call is not None}
    watch = Stopwatch(synchronize=torch.cuda.synchronize) if device.startswith("cuda") else Stopwatch()
    timings = interleave(calls, rounds=rounds, stopwatch=watch)
    return {
        "rounds": rounds,
        "times_ms": {name: timings.median(name) * 1e3 for name in calls},
        "ratio": {name: timings.ratio(name, "tpopt").to_dict() for name in calls if name != "tpopt"},
    }
