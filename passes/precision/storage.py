"""The form of a program that stores its values and its weights in a narrower type, and computes as it did.

Every stage reads the narrow value of a tensor, converts it, computes and accumulates in the type it had, and rounds
once when it stores: what a tensor unit and a fused kernel do, and what a model in that type is traced to. The narrow
value of ``x`` is a tensor of its own, ``x.bf16``, so that one plan may hold both, with conversions where they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Final

import numpy as np

from tpopt.ir import DENSE, Compute, DType, Kernel, Origin, Program, Read, Scalar, Stage, Tensor
from tpopt.ir.build import iters
from tpopt.ir.program import Array
from tpopt.ir.terms import Cast, cast
from tpopt.ir.walk import rebuild, stage_reads
from tpopt.passes.fold_constants import stored
from tpopt.rewrite.contraction import contraction

SUMMARY: Final = 16
"""A result that is this many times smaller than what it is computed from is a statistic: it stays as it is."""


class Storage:
    """The narrow values of the tensors of several forms of one program, and of their weights.

    Args:
        programs: the forms; a name means the same in all of them.
        dtype: the type to store in, such as bf16; it replaces ``wide``.

    A tensor keeps its type where it has another one than ``wide``, is a scalar, a weight of rank 1 (a bias, a scale),
    a weight whose value may change, or has a structure.
    """

    def __init__(self, programs: Iterable[Program], dtype: DType, wide: DType = DType.F32) -> None:
        self.dtype, self.wide = dtype, wide
        self.origin: dict[str, Tensor] = {}
        """The tensor of every narrow value asked for so far, by the narrow value's name."""
        self._constants: dict[str, Array] = {}
        self._weights: set[str] = set()
        for program in programs:
            self.learn(program)
        self._made: dict[Tensor, Tensor] = {}

    def learn(self, program: Program) -> None:
        """Takes the weights of one more form in."""
        changing = {a.target for a in program.aliases}
        self._weights.update(w.name for w in program.weights)
        self._constants.update((n, v) for n, v in program.constants.items() if n not in changing)

    def narrow(self, tensor: Tensor) -> Tensor:
        """The narrow value of a tensor; the tensor itself where it keeps its type."""
        if tensor not in self._made:
            self._made[tensor] = self._new(tensor)
        return self._made[tensor]

    def _new(self, tensor: Tensor) -> Tensor:
        if tensor.dtype is not self.wide or tensor.rank == 0 or tensor.structure is not DENSE:
            return tensor
        if tensor.name in self._weights and (tensor.rank == 1 or tensor.name not in self._constants):
            return tensor
        made = Tensor(f"{tensor.name}.{self.dtype}", tensor.shape, self.dtype, tensor.layout)
        self.origin[made.name] = tensor
        return made

    def encoded(self, value: Scalar, target: Tensor) -> Scalar:
        """What is stored in ``target`` for a value."""
        return _rounded(value, target.dtype)

    def decoded(self, read: Read, source: Tensor) -> Scalar:
        """The value of ``source`` that a read of its narrow form stands for."""
        return cast(read, source.dtype)

    def stage(self, stage: Compute, target: Callable[[Tensor], Tensor] | None = None) -> Compute:
        """A stage on narrow operands, rounded once when it stores; ``target`` maps what it reads and writes."""
        change = target or self.narrow
        tensors = (*stage_reads(stage), *stage.outs)
        return over(stage, {t: (change(t), self) for t in tensors if change(t) is not t})

    def conversion(self, source: Tensor, target: Tensor) -> Compute:
        """``target := source``, of which one is the narrow form of the other."""
        loops = iters("i", source.shape)
        return Compute((target,), loops, (cast(source.at(loops), target.dtype),))

    def kernel(self, kernel: Kernel, target: Callable[[Tensor], Tensor] | None = None) -> Kernel | None:
        """A kernel on narrow operands with narrow results; what it computes inside keeps its type.

        ``None`` where the kernel stands for other than computes.
        """
        change = target or self.narrow
        outside = {*kernel.reads, *kernel.outs}
        if not all(isinstance(s, Compute) for s in kernel.defines):
            return None
        defines = tuple(
            self.stage(s, lambda t: change(t) if t in outside else t) for s in kernel.defines if isinstance(s, Compute)
        )
        reads, outs = tuple(map(change, kernel.reads)), tuple(map(change, kernel.outs))
        return replace(kernel, outs=outs, reads=reads, defines=defines)

    def value(self, weight: Tensor) -> Array:
        """The constant of a narrow weight: rounded to the nearest, to even on a tie."""
        return stored(self.constant(weight), self.narrow(weight))

    def constant(self, weight: Tensor) -> Array:
        """A weight as it was, in float64."""
        return np.asarray(self._constants[weight.name], dtype=np.float64)

    def constants(self) -> Iterator[tuple[Tensor, Array]]:
        """The constants that narrow forms asked for so far read."""
        for wide in self.origin.values():
            if self.is_constant(wide):
                yield self.narrow(wide), self.value(wide)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether it is a weight."""
        return tensor.name in self._weights


def over(stage: Compute, forms: Mapping[Tensor, tuple[Tensor, Storage]]) -> Compute:
    """A stage with narrow forms in the place of some tensors that it reads or writes, each with whose form it is."""

    def widened(term: Scalar) -> Scalar:
        if not isinstance(term, Read) or term.tensor not in forms:
            return term
        narrow, storage = forms[term.tensor]
        return storage.decoded(Read(narrow, term.indices), term.tensor)

    outs, bodies = [], []
    for out, body in zip(stage.outs, stage.bodies, strict=True):
        narrow, storage = forms.get(out, (out, None))
        outs.append(narrow)
        wide = rebuild(body, widened)
        bodies.append(wide if storage is None else storage.encoded(wide, narrow))
    return Compute(tuple(outs), stage.loops, tuple(bodies))


def _rounded(value: Scalar, dtype: DType) -> Scalar:
    """The value in a type; no detour over a wider one where it has that type already."""
    return value.value if isinstance(value, Cast) and value.value.dtype is dtype else cast(value, dtype)


def stored_narrow(program: Program, storage: Storage) -> Program:
    """The program with its values narrow between stages; inputs, outputs and whatever is no algebra keep their types.

    Statistics (sums over rows, means, variances) keep theirs too: they are small, and everything depends on them.
    """
    return _Narrower(program, storage).run()


class _Narrower:
    def __init__(self, program: Program, storage: Storage) -> None:
        self._program, self._storage = program, storage
        self._stages: list[Stage] = []
        self._weights: dict[Tensor, Tensor] = {}
        self._defined: set[Tensor] = {*program.inputs, *program.weights}

    def run(self) -> Program:
        program = self._program
        for stage in program.stages:
            kernel = isinstance(stage, Kernel) and self._kernel(stage)
            if isinstance(stage, Compute):
                self._compute(stage)
            elif not kernel:
                self._need_wide(stage_reads(stage))
                self._add(stage)
        self._need_wide(program.outputs)
        values = {**program.constants, **{n.name: self._storage.value(w) for w, n in self._weights.items()}}
        sources = {n: program.origins[t.name] for n, t in self._storage.origin.items() if t.name in program.origins}
        used = {t for s in self._stages for t in stage_reads(s)}
        kept = tuple(w for w in program.weights if w in used or w in program.outputs)
        origins: dict[str, Origin] = {**sources, **program.origins}
        return replace(
            program,
            stages=tuple(self._stages),
            weights=(*kept, *self._weights.values()),
            constants=MappingProxyType(values),
            origins=MappingProxyType(origins),
        ).validate()

    def _compute(self, stage: Compute) -> None:
        multiplies = contraction(stage) is not None
        mapping = {t: self._read(t, multiplies) for t in stage_reads(stage)}
        largest = max((_elements(t) for t in mapping if not self._storage.is_constant(t)), default=0)
        for out in stage.outs:
            last = out in self._program.outputs and out not in self._program.consumers
            statistic = not multiplies and _elements(out) * SUMMARY <= largest
            mapping[out] = out if last or statistic else self._storage.narrow(out)
        self._add(self._storage.stage(stage, lambda t: mapping.get(t, t)))

    def _kernel(self, stage: Kernel) -> bool:
        mapping = {t: self._read(t, multiplies=True) for t in stage.reads}
        mapping.update((o, self._storage.narrow(o)) for o in stage.outs)
        narrow = self._storage.kernel(stage, lambda t: mapping.get(t, t))
        if narrow is not None:
            self._add(narrow)
        return narrow is not None

    def _read(self, tensor: Tensor, multiplies: bool) -> Tensor:
        narrow = self._storage.narrow(tensor)
        if narrow is tensor or narrow in self._defined:
            return narrow
        if self._storage.is_constant(tensor):
            self._weights[tensor] = narrow
            return narrow
        if not multiplies:
            return tensor
        self._add(self._storage.conversion(tensor, narrow))
        return narrow

    def _need_wide(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if tensor not in self._defined:
                self._add(self._storage.conversion(self._storage.narrow(tensor), tensor))

    def _add(self, stage: Stage) -> None:
        self._stages.append(stage)
        self._defined.update(stage.outs)


def _elements(tensor: Tensor) -> int:
    """Elements of the static axes."""
    return prod(e for e in tensor.shape if isinstance(e, int))
