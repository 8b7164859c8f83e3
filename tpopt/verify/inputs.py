"""Inputs made from a Program: its shapes, types and index ranges, and values that are hard to get right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tpopt.errors import UnknownName, UnsupportedInput
from tpopt.ir import aten
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Symbol, evaluate, index, walk_atoms
from tpopt.ir.program import Program
from tpopt.ir.terms import Tensor
from tpopt.verify.ranges import Range, input_ranges

KINDS = ("normal", "strided", "large", "small", "zeros", "ones", "special")
"""``normal`` is Gaussian, ``strided`` the same in memory with gaps, ``large`` and ``small`` near the ends of the type's
range, ``special`` has NaN, infinities and negative zeros among normal values."""

_LARGE = {DType.F16: 1e2, DType.F64: 1e8}
_SMALL = {DType.F16: 6e-5, DType.F64: 1e-307}
_USUAL = (0, 8)
"""Values of an integer input that indexes nothing and that no example shows."""


def generate_inputs(
    program: Program, seed: int, sizes: Mapping[str, int], kind: str, like: Sequence[torch.Tensor] | None = None
) -> list[torch.Tensor]:
    """One tensor for each input of a program, on the CPU; the same ones for the same arguments.

    Args:
        program: whose inputs to make.
        seed: any integer; the global random state is neither read nor changed.
        sizes: values of the program's symbols.
        kind: one of :data:`KINDS`.
        like: examples of the inputs: they tell the scale of floats and the range of integers that index nothing, and
            stand in for the state that a program updates.

    Raises:
        UnknownName: ``kind`` is none of :data:`KINDS`.
        UnsupportedInput: ``sizes`` lacks a symbol.
    """
    if kind not in KINDS:
        raise UnknownName("kind of inputs", kind, KINDS)
    ranges = input_ranges(program, sizes)
    states = {a.target for a in program.aliases}
    made = []
    for position, tensor in enumerate(program.inputs):
        example = None if like is None else like[position].detach().cpu()
        if example is not None and tensor.name in states:
            made.append(example.clone())
            continue
        generator = torch.Generator().manual_seed(hash_of(seed, KINDS.index(kind), position))
        value = _value(tensor, _shape(tensor, sizes), kind, generator, ranges.get(tensor.name), example)
        made.append(_with_gaps(value) if kind == "strided" else value)
    return made


def hash_of(*numbers: int) -> int:
    """A seed that differs for different numbers, the same in every process."""
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:
        mixed = ((mixed ^ (number & 0xFFFFFFFFFFFFFFFF)) * 0xD6E8FEB86659FD93 + 1) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 32
    return mixed >> 1


def _shape(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    missing = [a.name for e in tensor.shape for a in walk_atoms(e) if isinstance(a, Symbol) and a.name not in sizes]
    if missing:
        raise UnsupportedInput(f"input {tensor!r}: the size of symbol {missing[0]} is not given; it has {dict(sizes)}")
    return tuple(evaluate(index(e), sizes) for e in tensor.shape)


def _value(
    tensor: Tensor,
    shape: tuple[int, ...],
    kind: str,
    generator: torch.Generator,
    span: Range | None,
    example: torch.Tensor | None,
) -> torch.Tensor:
    dtype = aten.torch_dtype(tensor.dtype)
    if tensor.dtype is DType.BOOL:
        return _bools(shape, kind, generator)
    if span is not None or not (tensor.dtype.is_float or tensor.dtype.is_complex):
        return _integers(shape, kind, generator, span or _seen(example)).to(dtype)
    if tensor.dtype.is_complex:
        real = tensor.dtype.real
        parts = [_floats(real, shape, kind, generator, None) for _ in range(2)]
        return torch.complex(*(p.to(aten.torch_dtype(real)) for p in parts))
    return _floats(tensor.dtype, shape, kind, generator, example).to(dtype)


def _bools(shape: tuple[int, ...], kind: str, generator: torch.Generator) -> torch.Tensor:
    if kind in ("zeros", "ones"):
        return torch.full(shape, kind == "ones")
    return torch.randint(0, 2, shape, generator=generator).to(torch.bool)


def _seen(example: torch.Tensor | None) -> Range:
    if example is None or not example.numel():
        return _USUAL
    return int(example.min()), int(example.max()) + 1


def _integers(shape: tuple[int, ...], kind: str, generator: torch.Generator, span: Range) -> torch.Tensor:
    low, high = span
    fixed = {"zeros": 0, "ones": 1, "large": high - 1, "small": low}
    if kind in fixed:
        return torch.full(shape, min(max(fixed[kind], low), high - 1))
    if kind == "special":
        return torch.where(torch.randint(0, 2, shape, generator=generator) == 0, low, high - 1)
    return torch.randint(low, high, shape, generator=generator)


def _floats(
    dtype: DType, shape: tuple[int, ...], kind: str, generator: torch.Generator, example: torch.Tensor | None
) -> torch.Tensor:
    if kind in ("zeros", "ones"):
        return torch.full(shape, float(kind == "ones"), dtype=torch.float64)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "large":
        return normal * _LARGE.get(dtype, 1e4)
    if kind == "small":
        return normal * _SMALL.get(dtype, 1e-38)
    if example is not None:
        normal = _alike(normal, example.to(torch.float64), generator)
    return _sprinkled(normal, generator) if kind == "special" else normal


def _alike(normal: torch.Tensor, example: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal values at the example's mean and spread; a choice of its values where it is not finite (masks are not)."""
    if example.numel() > 1 and not bool(example.isfinite().all()):
        chosen = torch.randint(0, example.numel(), normal.shape, generator=generator)
        return example.reshape(-1)[chosen]
    spread = float(example.std()) if example.numel() > 1 else 0.0
    return normal * spread + example.mean() if spread > 0 else normal


def _sprinkled(normal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A tenth of the values replaced by NaN, the infinities and negative zero; each once where there is room."""
    flat = normal.reshape(-1).clone()
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0], dtype=flat.dtype)
    count = min(flat.numel(), max(4, flat.numel() // 10))
    where = torch.randperm(flat.numel(), generator=generator)[:count]
    flat[where] = special[torch.arange(count) % 4]
    return flat.reshape(normal.shape)


def _with_gaps(value: torch.Tensor) -> torch.Tensor:
    """The same values in memory that is neither dense nor in row-major order, and does not start at the beginning."""
    if value.dim() == 0:
        return torch.stack([value, value])[1]
    reversed_axes = tuple(reversed(range(value.dim())))
    padded = torch.zeros((*reversed(value.shape[1:]), 2 * value.shape[0] + 1), dtype=value.dtype)
    view = padded[..., 1::2].permute(reversed_axes)
    view.copy_(value)
    return view
