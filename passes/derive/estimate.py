"""What programs of a region are expected to take, by one formula: it decides what is worth a candidate."""

from __future__ import annotations

from math import ceil, prod

from tpopt.ir import Compute, Kernel, Program, Size, Stage, Symbol, Tensor, index
from tpopt.ir.index import evaluate, walk_atoms
from tpopt.ir.walk import stage_reads
from tpopt.ir.work import stage_work
from tpopt.passes.common_subexpressions import CommonSubexpressions
from tpopt.passes.contraction import Cost
from tpopt.passes.derive.region import is_linear
from tpopt.rewrite import Trace

TRANSFORM = 8.0
"""How much slower a library's transforms compute than products of matrices (measured: 27 of 220 GMAC/s)."""
LANES = 16
"""Results that a vector holds."""
TYPICAL = 64
"""What a run-time extent counts as where its bounds say no better."""


class Estimate:
    """Times of stages of a program, and of programs for its regions. ``sizes`` are those of run-time extents."""

    def __init__(self, program: Program, cost: Cost) -> None:
        self.sizes = typical_sizes(program)
        self._cost = cost
        self._library: dict[Stage, float] = {}
        for call in program.stages:
            if isinstance(call, Kernel) and is_linear(call):
                self._library.update(dict.fromkeys(call.defines, 0.0))
                self._library[call.defines[-1]] = self._worked_us(
                    call, TRANSFORM if call.implementation == "fft" else 1
                )

    @property
    def in_library(self) -> frozenset[Tensor]:
        """Results of the stages that library calls stand for: such a call counts as a whole, at its last stage."""
        return frozenset(o for s in self._library for o in s.outs)

    def us(self, stage: Compute) -> float:
        """Microseconds of a stage."""
        return self._library[stage] if stage in self._library else self._worked_us(stage)

    def moved_us(self, stage: Compute) -> float:
        """Microseconds of a stage that moves more than it computes."""
        return float(self._cost.product(0.0, self._moved(stage)))

    def expected(self, program: Program, constants: frozenset[Tensor]) -> float:
        """Microseconds of a region's program, what depends on weights alone apart."""
        program = CommonSubexpressions().run(program, Trace())
        fixed = set(constants)
        for stage in program.stages:
            if all(t in fixed for t in stage_reads(stage)):
                fixed.update(stage.outs)
        return sum(self.us(s) for s in program.stages if isinstance(s, Compute) and s.outs[0] not in fixed)

    def _worked_us(self, stage: Stage, slower: float = 1.0) -> float:
        work = stage_work(stage, self.sizes)
        return float(self._cost.product(slower * float(work.macs + work.flops // 2), self._moved(stage)))

    def _moved(self, stage: Stage) -> float:
        return sum(self._elements(t.shape) for t in (*stage_reads(stage), *stage.outs))

    def _elements(self, shape: tuple[Size, ...]) -> float:
        return float(prod(evaluate(index(e), self.sizes) for e in shape))


def typical_sizes(program: Program) -> dict[str, int]:
    """Typical values of the run-time sizes, by symbol."""
    atoms = [a for t in program.tensors.values() for e in t.shape for a in walk_atoms(e)]
    found = dict.fromkeys((*program.symbols, *(a for a in atoms if isinstance(a, Symbol))))
    return {s.name: max(s.low, min(TYPICAL, TYPICAL if s.high is None else s.high)) for s in found}


def idle(results: int) -> float:
    """How much longer so few results a place take than as many as fill vectors."""
    return ceil(results / LANES) * LANES / results
