"""Evaluate what depends on weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from tpopt.errors import TpoptError
from tpopt.ir import DENSE, Compute, DType, Kernel, Opaque, Origin, Program, Reduce, Scatter, Stage, Tensor, postorder
from tpopt.ir.interpret import interpret
from tpopt.ir.interpret.rounding import round_bf16
from tpopt.ir.materialize import is_formula
from tpopt.ir.program import Array
from tpopt.ir.walk import stage_reads
from tpopt.passes.algebra.transforms import is_transform, transformed, transformed_tensor
from tpopt.rewrite import Numerics, Pass, Trace
from tpopt.rewrite.stages import symbols_of

MAX_BYTES = 64 << 20
"""Bytes of the largest weight that passes make: beyond it, a model's memory should be the user's decision."""

_NUMPY = MappingProxyType({DType.F32: np.float32, DType.F16: np.float16, DType.C64: np.complex64})


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replaces a stage whose reads are all weights with a weight that holds its value, under the same name.

    Whole chains of such stages are evaluated in float64 and rounded once, to the type of the tensor that the rest of
    the program reads. Its origin lists the parameters of all weights it comes from. Inputs, states and weights that
    an alias overwrites are no constants; weights given by a formula stay formulas, but small ones are evaluated beside
    others. Numerics: rounding.

    Given::

        weight v: f32[64]
        weight e: f32[64]
        r: f32[64] = L[i0:64] rsqrt(v[i0] + e[i0])
        y: f32[9,64] = L[i0:9,i1:64] x[i0,i1] * r[i1]

    Result::

        weight r: f32[64]
        y: f32[9,64] = L[i0:9,i1:64] x[i0,i1] * r[i1]

    A result takes at most ``max_bytes``, and at most ``growth`` times the bytes of the weights it comes from (8: a
    4-bit weight made f32) unless it takes at most ``small_bytes``. Evaluating a stage visits at most ``max_points``. A
    formula is small up to ``formula_bytes``; what depends on formulas alone is evaluated only with ``formulas``.
    """

    name: ClassVar[str] = "fold-constants"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING
    max_bytes: int = MAX_BYTES
    growth: float = 8.0
    small_bytes: int = 16 << 20
    max_points: int = 1 << 31
    formula_bytes: int = 1 << 12
    formulas: bool = False

    def run(self, program: Program, trace: Trace) -> Program:
        blocked: dict[Stage, str] = {}
        while True:
            folder = _Folder(self, program, blocked)
            failed = folder.evaluate()
            if not failed:
                return folder.result(trace)
            blocked.update(failed)


@dataclass
class _Folder:
    """One attempt. ``blocked`` are stages that could not be evaluated in an earlier attempt, with the reason."""

    options: FoldConstants
    program: Program
    blocked: Mapping[Stage, str]
    sizes: dict[Tensor, int] = field(default_factory=dict)  # bytes of the weights behind a known tensor
    refusals: dict[Stage, str] = field(default_factory=dict)
    folded: dict[Stage, tuple[Tensor, ...]] = field(default_factory=dict)
    values: dict[Tensor, Array] = field(default_factory=dict)
    origins: dict[Tensor, dict[str, None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        overwritten = {a.target for a in self.program.aliases}
        for weight in self.program.weights:
            if weight.name in self.program.constants and weight.name not in overwritten and weight.structure is DENSE:
                self.sizes[weight] = _bytes(weight)
            elif is_formula(weight.structure) and _bytes(weight) <= self.options.formula_bytes:
                self.sizes[weight] = _bytes(weight) if self.options.formulas else 0
        known = [s for s in self.program.stages if self._is_known(s)]
        self._choose(set(known))

    def _is_known(self, stage: Stage) -> bool:
        """Whether a stage can be evaluated; its outputs are known from then on."""
        reads = _own_reads(stage)
        if any(t not in self.sizes for t in reads) or (reads and not any(self.sizes[t] for t in reads)):
            return False
        reason = self._obstacle(stage)
        if reason:
            self.refusals[stage] = reason
            return False
        behind = sum(self.sizes[t] for t in reads)
        self.sizes.update({o: min(behind, _bytes(o)) for o in stage.outs})
        return True

    def _obstacle(self, stage: Stage) -> str:
        if stage in self.blocked:
            return self.blocked[stage]
        if isinstance(stage, Opaque) or (isinstance(stage, Kernel) and not stage.defines):
            return f"{stage.target if isinstance(stage, Opaque) else stage.implementation} has no algebra to evaluate"
        if any(not isinstance(e, int) for o in stage.outs for e in o.shape):
            return "its shape is known only at run time"
        if isinstance(stage, (Compute, Scatter)) and symbols_of(stage):
            return "it depends on a size known only at run time"
        largest = max((_bytes(o) for o in stage.outs), default=0)
        if largest > self.options.max_bytes:
            return f"{largest} bytes are more than max_bytes={self.options.max_bytes}"
        visited = 0 if _is_transform(stage) else _points(stage)
        if visited > self.options.max_points:
            return f"{visited} points are more than max_points={self.options.max_points}"
        return ""

    def _choose(self, known: set[Stage]) -> None:
        """Which outputs of known stages become weights: those that others read, as far as their size allows."""
        needed = set(self.program.outputs)
        for stage in reversed(self.program.stages):
            wanted = tuple(o for o in stage.outs if o in needed)
            if stage in known:
                reason = self._too_large(stage, wanted)
                if not reason:
                    self.folded[stage] = wanted
                    continue
                self.refusals[stage] = reason
            needed.update(stage_reads(stage))

    def _too_large(self, stage: Stage, wanted: tuple[Tensor, ...]) -> str:
        made = sum(_bytes(o) for o in wanted)
        replaced = sum(self.sizes[t] for t in _own_reads(stage))
        if made <= max(self.options.small_bytes, self.options.growth * replaced):
            return ""
        return f"{made} bytes would replace {replaced}, more than growth={self.options.growth:g} times"

    def evaluate(self) -> dict[Stage, str]:
        """Fills ``values``; returns the stages at which that failed, with reasons."""
        wanted = {o for outs in self.folded.values() for o in outs}
        order: list[Stage] = []
        needed = set(wanted)
        for stage in reversed(self.program.stages):
            if all(o in self.sizes for o in stage.outs) and any(o in needed for o in stage.outs):
                order.append(stage)
                needed.update(_own_reads(stage))
        readers: dict[Tensor, int] = {}
        for stage in order:
            for tensor in _own_reads(stage):
                readers[tensor] = readers.get(tensor, 0) + 1
        arrays: dict[Tensor, Array] = {}
        for stage in reversed(order):
            try:
                results = self._run(stage, arrays)
                self.values.update({o: stored(r, o) for o, r in zip(stage.outs, results, strict=True) if o in wanted})
            except TpoptError as error:
                return {stage: f"it cannot be evaluated: {error}"}
            arrays.update({o: r for o, r in zip(stage.outs, results, strict=True) if readers.get(o)})
            for tensor in _own_reads(stage):
                readers[tensor] -= 1
                if not readers[tensor]:
                    arrays.pop(tensor, None)
        return {}

    def _run(self, stage: Stage, arrays: Mapping[Tensor, Array]) -> tuple[Array, ...]:
        reads = _own_reads(stage)
        inputs = tuple(t for t in reads if t in arrays)
        weights = tuple(t for t in reads if t not in arrays)
        behind = dict.fromkeys(n for t in inputs for n in self.origins[t])
        behind.update(dict.fromkeys(n for w in weights for n in self.program.origin(w.name).nodes or (w.name,)))
        self.origins.update(dict.fromkeys(stage.outs, behind))
        if isinstance(stage, Kernel) and is_transform(stage):
            (read,) = reads
            return (transformed(stage, arrays[read] if inputs else self.program.constants[read.name]),)
        single = Program("constant", inputs, weights, (stage,), stage.outs, constants=self.program.constants)
        return interpret(single, [arrays[t] for t in inputs])

    def result(self, trace: Trace) -> Program:
        """The program with the folded stages as weights; decisions go to the trace."""
        program = self.program
        for stage in program.stages:
            names = [o.name for o in stage.outs]
            if self.folded.get(stage):
                trace.applied("FoldStage", names, numerics=Numerics.ROUNDING)
            elif stage in self.refusals:
                trace.refused("FoldStage", self.refusals[stage], names)
        if not self.folded:
            return program
        added = tuple(o for s in program.stages for o in self.folded.get(s, ()))
        constants = {**program.constants, **{t.name: self.values[t] for t in added}}
        origins = {**program.origins, **{t.name: self._origin(t) for t in added}}
        return program.with_stages(
            tuple(s for s in program.stages if s not in self.folded),
            weights=(*program.weights, *added),
            constants=MappingProxyType(constants),
            origins=MappingProxyType(origins),
        )

    def _origin(self, tensor: Tensor) -> Origin:
        own = self.program.origin(tensor.name)
        return Origin(tuple(self.origins[tensor]), own.lines, own.module)


def stored(value: Array, tensor: Tensor) -> Array:
    """A float64, complex128 or integer array as the program stores it: rounded once, bf16 as its bits.

    Raises :class:`TpoptError` when a finite value is too large for the tensor's type.
    """
    kind = tensor.dtype
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = round_bf16(value) if kind is DType.BF16 else value.astype(_NUMPY.get(kind, value.dtype))
    if kind.is_float or kind.is_complex:
        overflown = np.isfinite(value) & ~np.isfinite(rounded)
        if overflown.any():
            raise TpoptError(f"a value of {tensor.name} is too large for {kind}")
    if kind is DType.BF16:
        rounded = (rounded.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(rounded).reshape(value.shape)


def _is_transform(stage: Stage) -> bool:
    return isinstance(stage, Kernel) and is_transform(stage)


def _own_reads(stage: Stage) -> tuple[Tensor, ...]:
    """What a stage is evaluated from: a transform needs no matrix."""
    if isinstance(stage, Kernel) and is_transform(stage):
        return (transformed_tensor(stage),)
    return tuple(stage_reads(stage))


def _points(stage: Stage) -> int:
    """Points that evaluating a stage visits: its loops times the ranges of its reductions."""
    if isinstance(stage, Kernel):
        return sum(map(_points, stage.defines))
    if not isinstance(stage, (Compute, Scatter)):
        return sum(_bytes(o) for o in stage.outs)
    roots = stage.bodies if isinstance(stage, Compute) else (stage.value,)
    loops = prod(i.extent for i in stage.loops if isinstance(i.extent, int))
    inner = [
        prod(i.extent for i in t.iters if isinstance(i.extent, int)) for t in postorder(*roots) if isinstance(t, Reduce)
    ]
    return loops * max(1, sum(inner))


def _bytes(tensor: Tensor) -> int:
    return prod(e for e in tensor.shape if isinstance(e, int)) * tensor.dtype.itemsize
