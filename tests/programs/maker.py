"""What a random program is made with: tensors and what is known of their values, and the same program in torch.

Values stay small, away from the edges of the functions they meet, and distinct where an order is asked for. What jumps
(comparisons, rounding, casts to integers) is applied to *exact* values alone: those that every evaluator computes to
the last bit, so that no two evaluators can land on different sides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tpopt.ir import Builder, DType, Index, Iter, Program, Size, Stage, Symbol, Tensor, index, size
from tpopt.ir.index import evaluate

Env = Mapping[str, torch.Tensor]
Run = Callable[[Env], Sequence[torch.Tensor]]
FLOATS = (DType.F32, DType.F32, DType.F32, DType.F64, DType.F16, DType.BF16)
INTEGERS = (DType.I64, DType.I64, DType.I32, DType.I16, DType.I8, DType.U8)
TORCH = {
    DType.I64: torch.int64,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.U8: torch.uint8,
    DType.BOOL: torch.bool,
}
NUMPY = {DType.F64: np.float64, DType.F16: np.float16, DType.C64: np.complex64, DType.C128: np.complex128}
GRID = 64
"""Inputs are odd multiples of 1/GRID: exact in every float type, never zero, and sums of few are exact."""


def torch_type(dtype: DType) -> torch.dtype:
    """The type that the reference computes in: double precision for every float."""
    return torch.float64 if dtype.is_float else torch.complex128 if dtype.is_complex else TORCH[dtype]


@dataclass(frozen=True)
class Value:
    """A tensor and what is known of its values: ``low <= x <= high`` (of the absolute value when complex)."""

    tensor: Tensor
    low: float
    high: float
    exact: bool = False
    distinct: bool = False

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.tensor.shape

    @property
    def bound(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass
class Maker:
    """A program in the making. ``run`` holds, for each stage, the names it defines and their torch reference."""

    seed: int
    symbols: dict[Symbol, int]
    builder: Builder = field(default_factory=Builder)
    values: list[Value] = field(default_factory=list)
    inputs: dict[Tensor, Any] = field(default_factory=dict)
    weights: dict[Tensor, Any] = field(default_factory=dict)
    run: list[tuple[tuple[str, ...], Run]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.numpy = np.random.default_rng(self.seed)

    def dim(self, extent: Size) -> int:
        """The extent in this run."""
        return evaluate(extent, {s.name: v for s, v in self.symbols.items()})

    def dims(self, shape: Sequence[Size]) -> tuple[int, ...]:
        """The shape in this run."""
        return tuple(map(self.dim, shape))

    def count(self, shape: Sequence[Size]) -> int:
        """Elements of a shape in this run."""
        return int(np.prod(self.dims(shape), dtype=np.int64))

    def name(self, base: str) -> str:
        """An unused name."""
        return self.builder.name(base)

    def loops(self, shape: Sequence[Size], prefix: str = "i") -> tuple[Iter, ...]:
        """Iterators over a shape."""
        return tuple(Iter(f"{prefix}{n}", e) for n, e in enumerate(shape))

    def add(self, stage: Stage, run: Run, known: Sequence[tuple[float, float, bool, bool]]) -> list[Value]:
        """Adds a stage, its reference, and what is known of its outputs: (low, high, exact, distinct)."""
        self.builder.add(stage)
        self.run.append((tuple(o.name for o in stage.outs), run))
        made = [Value(o, *k) for o, k in zip(stage.outs, known, strict=True)]
        self.values += made
        return made

    def pick(self, wanted: Callable[[Value], bool]) -> Value | None:
        """An existing value, later ones more likely."""
        fitting = [v for v in self.values if wanted(v)]
        return self.random.choice(fitting[-6:] if self.random.random() < 0.7 else fitting) if fitting else None

    def floats(self, shape: Sequence[Size], dtype: DType = DType.F32, *, weight: bool = False) -> Value:
        """A new input or weight with distinct values."""
        tensor = Tensor(self.name("w" if weight else "x"), tuple(shape), dtype)
        count = self.count(shape)
        odd = 2 * self.numpy.permutation(max(count, 128))[:count] + 1 - max(count, 128)
        array = (odd / GRID).reshape(self.dims(shape))
        if dtype.is_complex:
            array = array + 1j * self.numpy.permutation(array.ravel()).reshape(array.shape)
        (self.weights if weight else self.inputs)[tensor] = stored(array, dtype)
        bound = max(count, 128) / GRID * (2 if dtype.is_complex else 1)
        return self._known(Value(tensor, -bound, bound, exact=True, distinct=not dtype.is_complex))

    def integers(self, shape: Sequence[Size], low: int, high: int, dtype: DType = DType.I64) -> Value:
        """A new integer input with ``low <= x < high``."""
        tensor = Tensor(self.name("n"), tuple(shape), dtype)
        array = (
            self.numpy.integers(low, high, self.dims(shape)) if self.count(shape) else np.zeros(self.dims(shape), int)
        )
        self.inputs[tensor] = stored(array, dtype)
        return self._known(Value(tensor, low, high - 1, exact=True))

    def bools(self, shape: Sequence[Size]) -> Value:
        """A new bool input."""
        tensor = Tensor(self.name("b"), tuple(shape), DType.BOOL)
        self.inputs[tensor] = self.numpy.integers(0, 2, self.dims(shape)).astype(bool)
        return self._known(Value(tensor, 0, 1, exact=True))

    def positions(self, shape: Sequence[Size], below: Size) -> Value:
        """An integer input whose values are positions of an axis; -1 of them where the axis is empty is avoided."""
        return self.integers(shape, 0, self.dim(below))

    def shape(self, rank: int | None = None) -> tuple[Size, ...]:
        """A random small shape, at times with an axis of extent 1, 0, or one known at run time only."""
        chosen = self.random.choice((0, 1, 1, 2, 2, 2, 3, 3, 4)) if rank is None else rank
        sizes: list[Size] = [self.random.choice((1, 2, 2, 3, 3, 4, 5)) for _ in range(chosen)]
        for axis in range(chosen):
            draw = self.random.random()
            if self.symbols and draw < 0.3:
                sizes[axis] = size(self.random.choice(list(self.symbols)))
            elif draw > 0.98:
                sizes[axis] = 0
        return tuple(sizes)

    def _known(self, value: Value) -> Value:
        self.values.append(value)
        return value


@dataclass(frozen=True)
class Made:
    """A program, its inputs as numpy arrays, and the same function written in torch."""

    program: Program
    inputs: tuple[Any, ...]
    run: tuple[tuple[tuple[str, ...], Run], ...]

    def torch(self) -> tuple[torch.Tensor, ...]:
        """The outputs by torch alone, in double precision."""
        env: dict[str, torch.Tensor] = {}
        given = zip(self.program.inputs, self.inputs, strict=True)
        for tensor, array in (*given, *((w, self.program.constants[w.name]) for w in self.program.weights)):
            env[tensor.name] = loaded(array, tensor.dtype)
        for names, run in self.run:
            env.update(zip(names, run(env), strict=True))
        return tuple(env[o.name] for o in self.program.outputs)


def stored(array: Any, dtype: DType) -> Any:
    """An array as :class:`Program` keeps it: bf16 as its bits."""
    if dtype is DType.BF16:
        return np.asarray(np.asarray(array, np.float32, order="C").view(np.uint32) >> 16).astype(np.uint16)
    return array.astype(
        NUMPY.get(dtype) or (np.float32 if dtype.is_float else np.dtype(str(TORCH[dtype]).split(".")[1]))
    )


def loaded(array: Any, dtype: DType) -> torch.Tensor:
    """A stored array as the reference reads it."""
    if dtype is DType.BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return torch.from_numpy(np.array(array)).to(torch_type(dtype))


def aligned(m: Maker, value: Value, loops: Sequence[Iter]) -> tuple[list[Index], tuple[int, ...]] | None:
    """Indices that read a value along some of the loops, in order, and the shape to view it as; None if none fit."""
    where: list[Index] = []
    view = [1] * len(loops)
    axis = len(loops)
    for extent in reversed(value.shape):
        if extent == 1:
            where.append(index(0))
            continue
        axis -= 1
        while axis >= 0 and loops[axis].extent is not extent and loops[axis].extent != extent:
            axis -= 1
        if axis < 0:
            return None
        where.append(index(loops[axis]))
        view[axis] = m.dim(extent)
    return where[::-1], tuple(view)
