"""What a lowering writes with: names, expected outputs, and the constructors it needs most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from tpopt.frontend.own_weights import OwnWeights
from tpopt.frontend.registry import NoAlgebra
from tpopt.ir import Builder, DType, Iter, Kernel, Scalar, Stage, Structure, Tensor, position
from tpopt.ir.index import Index, IndexLike
from tpopt.ir.program import Array
from tpopt.ir.stages import Attribute
from tpopt.ir.terms import Number, as_scalar, cast
from tpopt.ir.walk import stage_reads

Operand: TypeAlias = "Tensor | Index | Number"
"""What a pointwise operator takes: a tensor, a run-time integer or a Python number."""
KEPT_WHOLE: Final = frozenset({"attention", "fft"})
"""Operators that the algebra holds as one Kernel over their own algebra, as libraries have them whole too."""


class Nested(Builder):
    """Collects some stages apart, with names from the outer builder."""

    def __init__(self, outer: Builder) -> None:
        super().__init__()
        self._outer = outer

    def name(self, base: str) -> str:
        """A name that is free in the outer builder; it is taken there too."""
        return self._outer.name(base)


@dataclass
class Context:
    """One operator being lowered.

    ``outs`` are the results torch promises (name, shape, dtype; ``None`` for a result that is no tensor); ``used`` says
    which of them somebody reads. ``constants`` are the values of weights; ``own`` holds those that lowerings add.
    ``memory`` is, for each argument that fills its memory, its axes in the order in which they lie there.
    """

    target: str
    builder: Builder
    base: str
    outs: tuple[Tensor | None, ...]
    used: tuple[bool, ...]
    constants: Mapping[str, Array]
    own: OwnWeights
    memory: Mapping[Tensor, tuple[int, ...]] = field(default_factory=dict)

    @property
    def out(self) -> Tensor:
        """The first result."""
        if not self.outs or self.outs[0] is None:
            raise NoAlgebra(f"{self.target} yields no tensor")
        return self.outs[0]

    @property
    def dtype(self) -> DType:
        """Element type of the first result."""
        return self.out.dtype

    def compute(self, shape: Sequence[IndexLike], body: Callable[..., Scalar], suffix: str = "") -> Tensor:
        """Adds ``t[i0, i1, …] = body(i0, i1, …)`` and returns ``t``."""
        return self.builder.compute(f"{self.base}.{suffix}" if suffix else f"{self.base}.t", shape, body)

    def many(self, shape: Sequence[IndexLike], body: Callable[..., Sequence[Scalar]]) -> tuple[Tensor, ...]:
        """Adds one stage with several outputs."""
        return self.builder.compute_many(f"{self.base}.t", shape, body)

    def pointwise(self, body: Callable[..., Scalar]) -> Tensor:
        """``out[i…] = body(i…)`` over the first result's shape."""
        return self.compute(self.out.shape, body)

    def fresh(self, shape: Sequence[IndexLike], dtype: DType, suffix: str = "t") -> Tensor:
        """A new tensor for a stage that the lowering builds itself and passes to :meth:`add`."""
        from tpopt.ir.build import tensor

        return tensor(self.builder.name(f"{self.base}.{suffix}"), shape, dtype)

    def weight(self, name: str, shape: Sequence[IndexLike], dtype: DType, structure: Structure) -> Tensor:
        """A weight given by a formula; the same structure asked for twice is the same tensor."""
        return self.own.structured(name, shape, dtype, structure)

    def table(self, name: str, values: Array, dtype: DType) -> Tensor:
        """A weight with the given values; equal values asked for twice are the same tensor."""
        return self.own.table(name, values, dtype)

    def kernel(
        self,
        implementation: str,
        reads: Sequence[Tensor],
        write: Callable[[Context], Sequence[Tensor]],
        **parameters: Attribute,
    ) -> tuple[Tensor, ...]:
        """Adds a Kernel stage: ``write`` adds its algebra to the context it is given and returns its outputs.

        ``reads`` are the call's operands in order; formulas that the algebra uses are added behind them.
        """
        assert implementation in KEPT_WHOLE
        inner = replace(self, builder=Nested(self.builder))
        outs, stages = tuple(write(inner)), tuple(inner.builder.stages)
        known = {*reads, *(o for s in stages for o in s.outs)}
        formulas = dict.fromkeys(t for s in stages for t in stage_reads(s) if t not in known)
        self.add(Kernel(outs, implementation, (*reads, *formulas), stages, tuple(sorted(parameters.items()))))
        return outs

    def add(self, stage: Stage) -> Stage:
        """Appends a stage."""
        return self.builder.add(stage)

    def refuse(self, reason: str) -> NoAlgebra:
        """``raise ctx.refuse("…")``: the operator stays whole."""
        return NoAlgebra(reason)


def broadcast(source: Operand, indices: Sequence[Iter | Index], dtype: DType) -> Scalar:
    """``source`` read at the last of ``indices`` under torch's broadcasting, converted to ``dtype``."""
    if isinstance(source, Index):
        return position(source, dtype)
    if not isinstance(source, Tensor):
        return as_scalar(source, dtype)
    own = list(indices[len(indices) - source.rank :]) if source.rank else []
    where: list[IndexLike] = [0 if extent == 1 else i for i, extent in zip(own, source.shape, strict=True)]
    return cast(source.at([_index(w) for w in where]), dtype)


def _index(value: IndexLike) -> Index:
    from tpopt.ir.index import index

    return index(value)


def axis(dim: int, rank: int) -> int:
    """A dimension number made non-negative (rank 0 counts as 1, as in torch)."""
    return dim % max(rank, 1)


def axes(dims: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
    """Sorted non-negative dimensions; ``None`` or empty means all."""
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return tuple(range(rank))
    listed = [dims] if isinstance(dims, int) else dims
    return tuple(sorted({axis(d, rank) for d in listed}))
