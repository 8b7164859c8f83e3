"""Convolutions with constant weights: oneDNN on weights packed once, channels-last out, with fused epilogues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.contraction import Contraction, match_contraction
from tpopt.backend.library.epilogue import ACTIVATIONS, Epilogue, epilogues
from tpopt.backend.library.geometry import Geometry, match_geometry
from tpopt.backend.operators import function
from tpopt.choose.candidate import CHANNELS_LAST, ROW, Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, DType, Iter, Kernel, Program, Read, Tensor, index
from tpopt.rewrite.numerics import Numerics

KIND = "onednn"
SPLITS, SPLIT_FROM = 4, 1000
"""Parts of a long sum, and the terms from which on it is offered in parts.

A sum in four accumulators loses half as much accuracy, and costs 10 to 20 % more (measured at 256 and 512 channels).
"""
_PARTS = ("parts", SPLITS)


def candidates(program: Program, found: Candidates) -> None:
    """Adds candidates for every 2-D or 3-D convolution with a constant weight, with each epilogue and layout."""
    weights = {w for w in program.weights if w.name in program.constants}
    for stage in program.stages:
        match = match_contraction(stage) if isinstance(stage, Compute) else "it is no sum"
        if isinstance(match, str) or (match.left.tensor in weights) == (match.right.tensor in weights):
            continue
        oriented = match if match.right.tensor in weights else match.swapped()
        if oriented.right.tensor.rank < 4 or oriented.left.tensor.rank < 4:
            continue
        geometry = _admitted(oriented, weights)
        if isinstance(geometry, str):
            found.refuse(f"{match.out.name}:convolution", KIND, (match.out.name,), geometry)
            continue
        for epilogue in epilogues(program, match.out):
            _add(found, oriented, geometry, epilogue)


def _admitted(match: Contraction, weights: set[Tensor]) -> Geometry | str:
    if any(t.dtype is not DType.F32 for t in (match.out, match.left.tensor, match.right.tensor)):
        return f"oneDNN's packed convolution is wired for f32, this is {match.out.dtype}"
    bias = match.bias
    if bias is not None and not _per_filter(bias, match.loops[1], weights):
        return "the added term is no weight over the filters"
    geometry = match_geometry(match)
    if isinstance(geometry, Geometry) and geometry.transposed and len(geometry.stride) != 2:
        return "oneDNN's packed transposed convolution is wired for two dimensions"
    return geometry


def _per_filter(bias: Read, filters: Iter, weights: set[Tensor]) -> bool:
    return bias.tensor in weights and bias.indices == (index(filters),) and bias.tensor.shape == (filters.extent,)


def _add(found: Candidates, match: Contraction, geometry: Geometry, epilogue: Epilogue) -> None:
    name = f"{epilogue.out.name}:convolution({match.out.name})"
    covers = (match.out.name, *(s.outs[0].name for s in epilogue.stages))
    if epilogue.other is not None and (geometry.transposed or epilogue.activation not in ("", "relu")):
        return found.refuse(
            name, KIND, covers, "oneDNN adds a tensor only to a direct convolution, with or without relu"
        )
    reads = [match.left.tensor, match.right.tensor]
    reads += [match.bias.tensor] if match.bias is not None else []
    reads += [epilogue.other] if epilogue.other is not None else []
    parameters = (
        ("transposed", geometry.transposed),
        ("stride", geometry.stride),
        ("padding", geometry.padding),
        ("dilation", geometry.dilation),
        ("output_padding", geometry.output_padding),
        ("groups", geometry.groups),
        ("bias", match.bias is not None),
        ("binary", epilogue.other is not None),
        ("activation", epilogue.activation),
    )
    stage = Kernel((epilogue.out,), "onednn.convolution", tuple(reads), (match.stage, *epilogue.stages), parameters)
    makes = CHANNELS_LAST if epilogue.out.rank == 4 else ROW
    other = () if epilogue.other is None else (Value(epilogue.other.name, makes),)
    for layout in (CHANNELS_LAST, ROW):
        if layout == CHANNELS_LAST and match.left.tensor.rank != 4:
            continue
        needs = (Value(match.left.tensor.name, layout), *other)
        key = kernel_key(stage, f"{layout}>{makes}")
        label = f"{name}:{layout or 'row-major'}"
        produces = (Value(epilogue.out.name, makes),)
        found.add(Candidate(label, KIND, stage, needs, produces, key, Numerics.REASSOCIATING, covers))
        if layout == CHANNELS_LAST and _splits(match, geometry, epilogue):
            parts = replace(stage, implementation="onednn.convolution_in_parts", parameters=(*parameters, _PARTS))
            key = kernel_key(parts, f"{layout}>{makes}")
            label = f"{name}:in-parts"
            found.add(Candidate(label, KIND, parts, needs, produces, key, Numerics.REASSOCIATING, covers))
    return None


def _splits(match: Contraction, geometry: Geometry, epilogue: Epilogue) -> bool:
    """Whether a convolution may be computed as a sum over groups of its input channels."""
    channels = match.left.tensor.shape[1]
    taps = [e for e in match.right.tensor.shape[1:] if isinstance(e, int)]
    long = len(taps) == match.right.tensor.rank - 1 and prod(taps) >= SPLIT_FROM
    whole = isinstance(channels, int) and channels % SPLITS == 0
    plain = not geometry.transposed and geometry.groups == 1 and epilogue.activation in ("", "relu")
    return long and whole and plain


def bind_convolution(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``onednn.convolution``: data, packed weight, and what is fused.

    The weight is packed for the data's shape; where that is dynamic, once for all.
    """
    own: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in stage.parameters}
    x, w = stage.reads[:2]
    static = [e for e in x.shape if isinstance(e, int)]
    shape = static if len(static) == x.rank else []
    packed = binder.packed(
        (stage.implementation, w.name, tuple(shape[1:]), str(own)), lambda: _pack(binder.weights[w.name], own, shape)
    )
    bias = binder.weights[stage.reads[2].name].detach().contiguous() if own["bias"] else None
    padding, stride, dilation, groups = own["padding"], own["stride"], own["dilation"], own["groups"]
    out = (stage.outs[0].name,)
    activation = ACTIVATIONS[own["activation"]]
    post = (activation.attribute, list(activation.scalars), activation.algorithm)
    fused = f" + {own['activation']}" if own["activation"] else ""
    if own["transposed"]:
        call = function("mkldnn._convolution_transpose_pointwise.default")
        args: tuple[Any, ...] = (
            Ref(x.name), packed, bias, padding, own["output_padding"], stride, dilation, groups, *post,
        )  # fmt: skip
        return Call(f"oneDNN transposed convolution{fused}", call, args, (), out)
    if own["binary"]:
        call = function("mkldnn._convolution_pointwise.binary")
        unary = activation.attribute if own["activation"] else None
        args = (
            Ref(x.name), Ref(stage.reads[-1].name), packed, bias, padding, stride, dilation, groups,
            "add", None, unary, [], "",
        )  # fmt: skip
        return Call(f"oneDNN convolution + add{fused}", call, args, (), out)
    call = function("mkldnn._convolution_pointwise.default")
    args = (Ref(x.name), packed, bias, padding, stride, dilation, groups, *post)
    return Call(f"oneDNN convolution{fused}", call, args, (), out)


def bind_in_parts(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``onednn.convolution_in_parts``: groups of input channels one after the other, each added to those before."""
    own: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in stage.parameters}
    x, w = stage.reads[:2]
    static = [e for e in x.shape if isinstance(e, int)]
    shape = static if len(static) == x.rank else []
    weight = binder.weights[w.name].detach()
    step = weight.shape[1] // own["parts"]
    ranges = [(k * step, (k + 1) * step) for k in range(own["parts"])]
    packed = [
        binder.packed(
            (stage.implementation, w.name, low, tuple(shape[1:]), str(own)),
            partial(_pack, weight[:, low:high], own, [shape[0], step, *shape[2:]] if shape else []),
        )
        for low, high in ranges
    ]
    bias = binder.weights[stage.reads[2].name].detach().contiguous() if own["bias"] else None
    geometry = own["padding"], own["stride"], own["dilation"], own["groups"]
    last = "relu" if own["activation"] else None
    first_call = function("mkldnn._convolution_pointwise.default")
    add_call = function("mkldnn._convolution_pointwise.binary")

    def run(image: torch.Tensor, *other: torch.Tensor) -> torch.Tensor:
        parts = [image[:, low:high] for low, high in ranges]
        if other:
            result = add_call(parts[0], other[0], packed[0], bias, *geometry, "add", None, None, [], "")
        else:
            result = first_call(parts[0], packed[0], bias, *geometry, "none", [], "")
        for part, part_weight in zip(parts[1:-1], packed[1:-1], strict=True):
            result = add_call(part, result, part_weight, None, *geometry, "add", None, None, [], "")
        summed: torch.Tensor = add_call(parts[-1], result, packed[-1], None, *geometry, "add", None, last, [], "")
        return summed

    refs = (Ref(x.name), *((Ref(stage.reads[-1].name),) if own["binary"] else ()))
    return Call("oneDNN convolution in parts", run, refs, (), (stage.outs[0].name,))


def _pack(weight: torch.Tensor, own: Mapping[str, Any], shape: list[int]) -> torch.Tensor:
    packed: torch.Tensor
    dense = weight.detach().contiguous()
    common = (own["stride"], own["dilation"], own["groups"], shape)
    if own["transposed"]:
        packed = function("mkldnn._reorder_convolution_transpose_weight.default")(
            dense, own["padding"], own["output_padding"], *common
        )
    else:
        packed = function("mkldnn._reorder_convolution_weight.default")(dense, own["padding"], *common)
    return packed


BINDERS = {"onednn.convolution": bind_convolution, "onednn.convolution_in_parts": bind_in_parts}
