"""Runs passes and rules on program text, and checks on the way that the result is valid and has the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tpopt.ir import DType, Program, Symbol, Tensor
from tpopt.ir.index import evaluate
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program
from tpopt.ir.text import print_stage
from tpopt.rewrite import Pass, Pipeline, Trace

TOLERANCE = 1e-6
"""Relative to the largest output: a constant rounded once to f32 moves a float64 result by about 6e-8."""


@dataclass(frozen=True)
class Outcome:
    """What a run did. ``applied`` and ``refused`` pair the law with what it concerns, or with the reason."""

    before: Program
    after: Program
    trace: Trace

    @property
    def stages(self) -> str:
        """The text of the stages, one a line."""
        return "\n".join(print_stage(s) for s in self.after.stages)

    @property
    def weights(self) -> list[str]:
        return [w.name for w in self.after.weights]

    @property
    def applied(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(e.what, e.at) for e in self.trace.events if e.kind == "applied"]

    @property
    def refused(self) -> list[str]:
        return [e.detail for e in self.trace.events if e.kind == "refused"]


def valued(text: str, seed: int = 0) -> Program:
    """The program of a text, with random weights, positive so that roots and logarithms exist."""
    program = parse_program(text)
    random = np.random.default_rng(seed)
    return replace(program, constants={w.name: values(w, random, {}) for w in program.weights})


def values(tensor: Tensor, random: np.random.Generator, symbols: dict[str, int]) -> np.ndarray:
    """Values in [0, 1) for floats, small integers, or bits."""
    shape = [evaluate(e, symbols) for e in tensor.shape]
    if tensor.dtype is DType.BF16:
        return (random.random(shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if tensor.dtype.is_complex:
        return (random.random(shape) + 1j * random.random(shape)).astype(f"c{tensor.dtype.itemsize}")
    if tensor.dtype.is_float:
        return random.random(shape).astype({DType.F64: "f8", DType.F32: "f4", DType.F16: "f2"}[tensor.dtype])
    if tensor.dtype is DType.BOOL:
        return random.random(shape) < 0.5
    return random.integers(0, 3, shape).astype("u1" if tensor.dtype is DType.U8 else f"i{tensor.dtype.itemsize}")


def assert_same_values(before: Program, after: Program, seed: int = 1) -> None:
    """Both programs on the same random inputs, every symbol three above its least value."""
    random, symbols = np.random.default_rng(seed), {s.name: _some(s) for s in before.symbols}
    inputs = [values(t, random, symbols) for t in before.inputs]
    for old, new in zip(interpret(before, inputs), interpret(after, inputs), strict=True):
        assert old.dtype == new.dtype
        scale = np.abs(old[np.isfinite(old)]).max(initial=1e-30) if old.size else 1.0
        np.testing.assert_allclose(new, old, rtol=0, atol=TOLERANCE * scale)


def _some(symbol: Symbol) -> int:
    return min(symbol.low + 3, symbol.high) if symbol.high is not None else symbol.low + 3


def run(passes: Pass | Sequence[Pass], program: str | Program) -> Outcome:
    """Runs passes, which the pipeline checks, and compares the values before and after."""
    before = valued(program) if isinstance(program, str) else program
    trace = Trace()
    after = Pipeline((passes,) if isinstance(passes, Pass) else tuple(passes)).run(before, trace)
    assert_same_values(before, after)
    return Outcome(before, after, trace)
