"""The float64 truth: the interpreter where it is quick enough, else the torch evaluation in double."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import torch

from tpopt.errors import TpoptError
from tpopt.ir import aten
from tpopt.ir.interpret import interpret
from tpopt.ir.program import Array, Program
from tpopt.ir.stages import Opaque, Stage, TopK
from tpopt.ir.to_torch import TorchFunction, to_torch
from tpopt.ir.to_torch.control import run_opaque
from tpopt.ir.to_torch.setting import Setting, bind_symbols
from tpopt.ir.walk import stage_reads
from tpopt.verify.tolerance import exact_type, relative_error

INTERPRETER = "the interpreter in float64"
TORCH = "torch in float64"
_AGREEMENT = 1e-9
"""Relative L2 difference of two evaluations in double, far above their rounding and far below that of fp32."""


class _OutOfTimeError(Exception):
    """The interpreter has used up its time."""


class Reference:
    """Evaluates a program in float64.

    The interpreter evaluates the first inputs, and so does torch in double. The two share no code: where they agree,
    torch, which is quicker, does the rest; where they do not, the interpreter does. Which of equal values are among the
    largest is torch's to say, as in the original. ``seconds`` is what the interpreter may take in all. ``used`` says
    what ran, ``notes`` what went wrong on the way.
    """

    def __init__(self, program: Program, seconds: float) -> None:
        self.program = program
        self.used: dict[str, None] = {}
        self.notes: list[str] = []
        self._left = seconds
        self._dearest = 0.0
        self._double: TorchFunction | None = None

    def __call__(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs. Raises :class:`~tpopt.errors.UnsupportedInput` for inputs that break an index's bounds."""
        found = self._timed(inputs) if self._left > self._dearest else None
        if found is None:
            self.used[TORCH] = None
            return self.double(*inputs)
        first = not self.used
        self.used[INTERPRETER] = None
        if first:
            gap = _gap(found, self.double(*inputs))
            if gap <= _AGREEMENT:
                self._left = 0.0
            else:
                self.notes.append(f"the interpreter and torch in double differ by {gap:.1e}, please report it")
        return found

    def _timed(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...] | None:
        """The interpreter's result; None when it takes too long or fails."""
        start = time.perf_counter()
        try:
            found = self._interpreted(inputs, start + self._left)
        except _OutOfTimeError:
            self._left = 0.0
            return None
        except TpoptError:
            raise
        except Exception as error:  # noqa: BLE001 (a defect of one evaluator is no reason to give up: there are two)
            self._left = 0.0
            self.notes.append(f"the interpreter failed ({type(error).__name__}: {error}), please report it")
            return None
        taken = time.perf_counter() - start
        self._left, self._dearest = self._left - taken, max(self._dearest, taken)
        return found

    @property
    def double(self) -> TorchFunction:
        """The program in torch, in double, with lookups checked."""
        if self._double is None:
            self._double = to_torch(self.program, dtype=torch.float64, device="cpu", check=True)
        return self._double

    def stages(self, inputs: Sequence[torch.Tensor], names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Values of the named tensors."""
        return collect(self.double, inputs, names)

    def _interpreted(self, inputs: Sequence[torch.Tensor], deadline: float) -> tuple[torch.Tensor, ...]:
        def watch(_stage: Stage, _outs: tuple[Array, ...]) -> None:
            if time.perf_counter() > deadline:
                raise _OutOfTimeError

        symbols = bind_symbols(self.program.inputs, [tuple(t.shape) for t in inputs], {})
        arrays = [aten.to_numpy(t) for t in inputs]
        found = interpret(self.program, arrays, on_stage=watch, opaque=lambda s, a: _opaque(s, a, symbols), top=_top)
        return tuple(torch.from_numpy(a) for a in found)


def _top(stage: TopK, source: Array, k: int) -> Array:
    _, positions = torch.topk(torch.tensor(source), k, stage.axis, stage.largest, stage.sorted)
    found: Array = aten.to_numpy(positions)
    return found


def _gap(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """Largest relative L2 difference of two evaluations, over what is finite; infinite where exact types differ."""
    largest = 0.0
    for x, y in zip(map(exact_type, a), map(exact_type, b), strict=True):
        if not (x.is_floating_point() or x.is_complex()):
            largest = max(largest, 0.0 if torch.equal(x, y) else float("inf"))
            continue
        both = x.isfinite() & y.isfinite()
        largest = max(
            largest, relative_error(y[both], x[both]) if torch.equal(x.isfinite(), y.isfinite()) else float("inf")
        )
    return largest


def _opaque(stage: Opaque, arrays: Sequence[Array], symbols: Mapping[str, int]) -> tuple[Array, ...]:
    """An opaque call in double."""
    setting = Setting(torch.float64, torch.device("cpu"), symbols)
    env = {t.name: torch.from_numpy(a) for t, a in zip(stage_reads(stage), arrays, strict=True)}
    return tuple(r.numpy() for r in run_opaque(stage, env, setting))


def collect(run: TorchFunction, inputs: Sequence[torch.Tensor], names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Runs a program and keeps the named tensors."""
    wanted = dict.fromkeys(names)
    found: dict[str, torch.Tensor] = {}

    def keep(stage: Stage, outs: tuple[torch.Tensor, ...]) -> None:
        found.update({t.name: v for t, v in zip(stage.outs, outs, strict=True) if t.name in wanted})

    run(*inputs, on_stage=keep)
    return found
