"""Products with weights of a byte: oneDNN's on u8 data with sums in 32 bits, and torch's on few rows of bf16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.epilogue import ACTIVATIONS
from tpopt.backend.library.linear import after, before, matrix, row, row_count, wrap
from tpopt.backend.operators import function
from tpopt.ir import DType, Kernel, Tensor
from tpopt.ir.aten import torch_dtype


@dataclass(frozen=True)
class _Operands:
    """What a product of integers reads, and what it stores by."""

    x: tuple[float, int]
    scales: torch.Tensor
    zeros: torch.Tensor
    other: tuple[float, int]
    out: tuple[float, int]
    dtype: torch.dtype
    adds: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, stage: Kernel, binder: Binder, own: Mapping[str, Any]) -> _Operands:
        count = own["beside"]
        rest, beside = stage.reads[2:-count], stage.reads[-count:]
        integers = stage.outs[0].dtype is DType.U8
        affine = [_affine(binder.weights[t.name]) for t in beside if t is not beside[1]]
        scales = binder.weights[beside[1].name].reshape(-1)
        return cls(
            x=affine[0],
            scales=scales,
            zeros=torch.zeros(scales.numel(), dtype=torch.int32),
            other=affine[1] if integers and own["binary"] else (1.0, 0),
            out=affine[-1] if integers else (1.0, 0),
            dtype=torch_dtype(stage.outs[0].dtype),
            adds=rest[-1] if own["binary"] else None,
            bias=rest[0] if own["bias"] not in (None, False) else None,
        )


def _affine(numbers: torch.Tensor) -> tuple[float, int]:
    scale, _, zero = numbers.tolist()
    return scale, int(zero)


def bind_integer_linear(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``onednn.integer_linear``: the codes of the data times those of the packed matrix."""
    own: dict[str, Any] = dict(stage.parameters)
    x, w = stage.reads[:2]
    operands = _Operands.of(stage, binder, own)
    rows = row_count(x, own["depth"])

    def pack() -> torch.Tensor:
        shape = None if rows is None else [rows, own["depth"]]
        packed: torch.Tensor = function("onednn.qlinear_prepack.default")(matrix(binder.weights[w.name], own), shape)
        return packed

    packed = binder.packed(("integer linear", w.name, own["w_order"], rows), pack)
    bias = None if operands.bias is None else row(binder.weights[operands.bias.name], own)
    first, last = before(own, x.rank), after(own)
    common = (*operands.x, packed, operands.scales, operands.zeros)
    stored = (*operands.out, operands.dtype)
    out = (stage.outs[0].name,)
    if operands.adds is not None:
        call = function("onednn.qlinear_pointwise.binary")
        integers = operands.dtype is torch.uint8  # codes are added as oneDNN's sum alone, which is written in place
        tail: tuple[Any, ...] = (bias, *stored, *operands.other, "sum" if integers else "add", 1.0, "none", [], "")

        def added(codes: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = call(codes, *common, other.clone() if integers else other, *tail)
            return result

        refs = (Ref(x.name), Ref(operands.adds.name))
        return Call("oneDNN integer linear + add", wrap(added, first, last), refs, (), out)
    activation = ACTIVATIONS[own["activation"]]
    post = (activation.attribute, list(activation.scalars), activation.algorithm)
    label = "oneDNN integer linear" + (f" + {own['activation']}" if own["activation"] else "")
    args: tuple[Any, ...] = (Ref(x.name), *common, bias, *stored, *post)
    return Call(label, wrap(function("onednn.qlinear_pointwise.default"), first, last), args, (), out)


def bind_integer_convolution(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``onednn.integer_convolution``: the codes of the image with those of the packed filters."""
    own: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in stage.parameters}
    x, w = stage.reads[:2]
    operands = _Operands.of(stage, binder, own)
    geometry = (own["stride"], own["padding"], own["dilation"], own["groups"])
    static = [e for e in x.shape if isinstance(e, int)]
    shape = static if len(static) == x.rank else None

    def pack() -> torch.Tensor:
        codes = binder.weights[w.name].contiguous()
        packed: torch.Tensor = function("onednn.qconv_prepack.default")(
            codes, operands.scales, *operands.x, *geometry, shape
        )
        return packed

    key = ("integer convolution", w.name, tuple(shape or ()), operands.x, str(own))
    packed = binder.packed(key, pack)
    bias = None if operands.bias is None else binder.weights[operands.bias.name].detach().contiguous()
    common = (*operands.x, packed, operands.scales, operands.zeros)
    stored = (*operands.out, operands.dtype)
    activation = ACTIVATIONS[own["activation"]]
    fused = f" + {own['activation']}" if own["activation"] else ""
    out = (stage.outs[0].name,)
    if operands.adds is not None:
        call = function("onednn.qconv2d_pointwise.binary")
        unary = activation.attribute if own["activation"] else None
        tail: tuple[Any, ...] = (bias, *geometry, *stored, *operands.other, "sum", None, unary, [], "")

        def added(codes: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = call(codes, *common, other.clone(), *tail)  # it adds up in place
            return result

        refs = (Ref(x.name), Ref(operands.adds.name))
        return Call(f"oneDNN integer convolution + add{fused}", added, refs, (), out)
    post = (activation.attribute, list(activation.scalars), activation.algorithm)
    args: tuple[Any, ...] = (Ref(x.name), *common, bias, *geometry, *stored, *post)
    return Call(f"oneDNN integer convolution{fused}", _operator(len(geometry[0])), args, (), out)


def _operator(dimensions: int) -> Callable[..., Any]:
    return function("onednn.qconv2d_pointwise.default" if dimensions == 2 else "onednn.qconv_pointwise.default")


def bind_weight_linear(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``aten.weight_linear``: bf16 data times weights of a byte, which are widened on the way in."""
    own: dict[str, Any] = dict(stage.parameters)
    x, w, scale = stage.reads[0], stage.reads[1], stage.reads[-1]
    codes = binder.packed(("weight linear", w.name, own["w_order"]), lambda: matrix(binder.weights[w.name], own))
    scales = binder.weights[scale.name].reshape(-1).to(torch.bfloat16)  # exactly: they were rounded to that
    multiply = function("aten._weight_int8pack_mm.default")
    depth = own["depth"]
    bias = None if own["bias"] is None else row(binder.weights[stage.reads[2].name], own).to(torch.bfloat16)

    def product(data: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = multiply(data.reshape(-1, depth), codes, scales)
        whole = result if bias is None else result.add_(bias)
        return whole.reshape(*data.shape[:-1], -1)

    call = wrap(product, before(own, x.rank), after(own))
    return Call("linear with weights of a byte", call, (Ref(x.name),), (), (stage.outs[0].name,))


BINDERS = {
    "onednn.integer_linear": bind_integer_linear,
    "onednn.integer_convolution": bind_integer_convolution,
    "aten.weight_linear": bind_weight_linear,
}
