"""The expressions of ``examples/derivations`` at sizes that can be checked in full, and what is derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import derivations

from tpopt.frontend.trace import trace
from tpopt.ir import Program
from tpopt.passes.derive.derivation import Derivation
from tpopt.passes.derive.explore import Explorer
from tpopt.rewrite import Pipeline, Trace, registry

SIZES: Mapping[str, Mapping[str, int]] = {
    "conv_3x3": {"n": 2, "channels": 5, "features": 3, "side": 7},
    "conv_transpose_k4": {"n": 2, "channels": 6, "features": 3, "side": 2},
    "conv_transpose_pixel": {"n": 2, "channels": 10, "features": 4},
    "conv_transpose_9x9": {"channels": 4, "side": 8},
    "conv_5x5": {"n": 1, "channels": 3, "side": 9},
    "separable_branches": {"channels": 8, "height": 9, "width": 7, "features": 3, "k": 3},
    "dilated_stack": {"layers": 3, "channels": 4, "height": 6, "width": 10},
    "dilated_band": {"n": 2, "tokens": 24, "width": 5, "window": 3, "dilation": 4},
    "matrix_chain": {"n": 64, "m": 2},
    "linear_attention": {"heads": 1, "tokens": 128, "width": 8},
    "kronecker": {"a": 8, "b": 6, "columns": 2},
    "gaunt": {"degree": 2, "channels": 5},
    "clebsch_gordan": {"degree": 2, "channels": 7},
    "spectral_chain": {"n": 1, "channels": 2, "side": 8, "modes": 3},
    "spectral_corners": {"n": 1, "channels": 8, "side": 16, "modes": 3},
    "cp_spectral": {"n": 3, "inputs": 5, "outputs": 7, "modes": 11, "rank": 2},
    "lora": {"n": 4, "width": 16, "rank": 2},
    "complex_mix": {"n": 2, "channels": 3, "modes": 5},
    "small_sums": {"n": 13},
    "vector_first": {"z": 5, "i": 4, "j": 5, "k": 3},
    "long_convolution": {"length": 8, "channels": 2},
    "self_product": {"degree": 1, "channels": 5},
    "point_features": {"n": 2, "points": 9, "own": 3, "whole": 8, "outputs": 4},
    "pair_features": {"nodes": 6, "own": 5, "pair": 2, "outputs": 4},
}


@cache
def algebra(name: str) -> Program:
    """The algebra of an expression at its small size."""
    model, inputs = derivations.ZOO[name](**SIZES[name])
    passes = registry().parse("default").passes
    return Pipeline(tuple(p for p in passes if not p.bargain)).run(trace(model, inputs).algebra)


@cache
def derived(name: str, without: frozenset[str] = frozenset(), states: int = 32) -> tuple[Derivation, ...]:
    """Everything that is derived from an expression, whether it is expected to pay or not."""
    explorer = Explorer(algebra(name), Trace(), gain=float("inf"), most=100, states=states, without=without)
    return tuple(d for ranked in explorer.run() for d in ranked)


def explored(text: str, **options: Any) -> list[Derivation]:
    """Everything that is derived from the text of a program, its weights random."""
    from support.rewriting import valued

    return _all(valued(text), **options)


def explored_model(model: Any, inputs: tuple[Any, ...], **options: Any) -> list[Derivation]:
    """Everything that is derived from a module."""
    passes = registry().parse("default").passes
    return _all(Pipeline(tuple(p for p in passes if not p.bargain)).run(trace(model, inputs).algebra), **options)


def _all(program: Program, **options: Any) -> list[Derivation]:
    explorer = Explorer(program, Trace(), gain=float("inf"), most=100, **options)
    return [d for ranked in explorer.run() for d in ranked]


def reasons(text: str, law: str) -> list[str]:
    """Why a law was refused on the text of a program."""
    from support.rewriting import valued

    record = Trace()
    Explorer(valued(text), record, gain=float("inf"), most=100).run()
    return [e.detail for e in record.events if e.what == law and e.kind == "refused"]
