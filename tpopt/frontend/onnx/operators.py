"""The table of ONNX operators: each as torch calls. Arguments are a node's inputs in order, then its attributes by name.

The meaning is that of the ONNX operator specification, from opset 13 on. Inputs that ONNX allows to be computed but that
torch wants as integers (shapes, axes, pads) must be known on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what torch's users call it

from tpopt.errors import UnsupportedModel

Value: TypeAlias = "Tensor | np.ndarray[Any, Any] | None"

_DTYPES: Final = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 14: torch.complex64, 15: torch.complex128, 16: torch.bfloat16,
}  # fmt: skip


def as_tensor(value: Value) -> Tensor:
    """A value as a tensor, wherever it was known."""
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(np.array(value))


def _ints(value: Value, what: str) -> list[int]:
    if isinstance(value, Tensor):
        raise UnsupportedModel(f"{what} depends on the data of an input, and torch needs it as integers")
    return [] if value is None else [int(v) for v in np.asarray(value).reshape(-1)]


def _axes(value: Value, given: Sequence[int] | None, what: str) -> list[int]:
    """Axes as an input (newer opsets) or as an attribute (older ones)."""
    return _ints(value, what) if value is not None else list(given or ())


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda a, b, **_: function(as_tensor(a), as_tensor(b))


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, **_: function(x)


def _many(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def fold(*values: Value, **_: Any) -> Tensor:
        result = as_tensor(values[0])
        for value in values[1:]:
            result = function(result, as_tensor(value))
        return result

    return fold


def _div(a: Value, b: Value, **_: Any) -> Tensor:
    x, y = as_tensor(a), as_tensor(b)
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _mod(a: Value, b: Value, fmod: int = 0) -> Tensor:
    return (torch.fmod if fmod else torch.remainder)(as_tensor(a), as_tensor(b))


def _gemm(
    a: Tensor, b: Value, c: Value = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    x, y = a.t() if transA else a, as_tensor(b)
    if alpha == 1.0 and beta == 1.0 and transB and c is not None and as_tensor(c).dim() == 1:
        return F.linear(x, y, as_tensor(c))
    result = x @ (y.t() if transB else y) * alpha
    return result if c is None else result + as_tensor(c) * beta


def _pads(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis."""
    count = len(kernel)
    if auto_pad in ("NOTSET", "VALID"):
        given = list(pads or [0] * 2 * count) if auto_pad == "NOTSET" else [0] * 2 * count
        return given[:count], given[count:]
    totals = []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        totals.append(max((-(-int(size) // s) - 1) * s + (k - 1) * d + 1 - int(size), 0))
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The input and the padding that the operator itself can do; what differs on the two sides is done first."""
    if list(before) == list(after):
        return x, list(before)
    both = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
    return F.pad(x, both, value=value), [0] * len(before)


def _conv(
    x: Tensor,
    w: Value,
    b: Value = None,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Tensor:
    weight, bias = as_tensor(w), None if b is None else as_tensor(b)
    kernel, count = list(weight.shape[2:]), weight.dim() - 2
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    x, padding = _padded(x, *_pads(x, kernel, strides, dilations, pads, auto_pad))
    function: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[count]
    return function(x, weight, bias, strides, padding, dilations, group)  # type: ignore[no-any-return]


def _conv_transpose(
    x: Tensor,
    w: Value,
    b: Value = None,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Tensor:
    weight, bias = as_tensor(w), None if b is None else as_tensor(b)
    count = weight.dim() - 2
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    pads = list(pads or [0] * 2 * count)
    if auto_pad != "NOTSET" or output_shape or pads[:count] != pads[count:]:
        raise UnsupportedModel("ConvTranspose with auto_pad, output_shape or pads that differ on the two sides")
    function: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[count]
    return function(x, weight, bias, strides, pads[:count], output_padding or 0, group, dilations)  # type: ignore[no-any-return]


def _max_pool(
    x: Tensor,
    kernel_shape: Any,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Any = None,
    pads: Any = None,
    storage_order: int = 0,
    strides: Any = None,
) -> Tensor:
    count = len(kernel_shape)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    x, padding = _padded(x, *_pads(x, kernel_shape, strides, dilations, pads, auto_pad), value=-torch.inf)
    function: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[count]
    return function(x, list(kernel_shape), strides, padding, dilations, bool(ceil_mode))  # type: ignore[no-any-return]


def _average_pool(
    x: Tensor,
    kernel_shape: Any,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Tensor:
    count = len(kernel_shape)
    strides = list(strides or [1] * count)
    before, after = _pads(x, kernel_shape, strides, [1] * count, pads, auto_pad)
    if before != after or (dilations and any(d != 1 for d in dilations)):
        raise UnsupportedModel("AveragePool with dilations, or with pads that differ on the two sides")
    function: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[count]
    return function(x, list(kernel_shape), strides, before, bool(ceil_mode), bool(count_include_pad))  # type: ignore[no-any-return]


def _batch_norm(
    x: Tensor,
    scale: Value,
    b: Value,
    mean: Value,
    var: Value,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
) -> Tensor:
    if training_mode:
        raise UnsupportedModel("BatchNormalization in training mode")
    return F.batch_norm(x, as_tensor(mean), as_tensor(var), as_tensor(scale), as_tensor(b), False, 0.0, epsilon)


def _layer_norm(
    x: Tensor, scale: Value, b: Value = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    shape = list(x.shape[axis % x.dim() :])
    bias = None if b is None else as_tensor(b).expand(shape)
    return F.layer_norm(x, shape, as_tensor(scale).expand(shape), bias, epsilon)


def _group_norm(
    x: Tensor, scale: Value, b: Value, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.group_norm(x, num_groups, as_tensor(scale), as_tensor(b), epsilon)


def _instance_norm(x: Tensor, scale: Value, b: Value, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=as_tensor(scale), bias=as_tensor(b), eps=epsilon)


def _rms_norm(x: Tensor, scale: Value, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    return F.rms_norm(x, list(x.shape[axis % x.dim() :]), as_tensor(scale), epsilon)


def _reshape(x: Value, shape: Value, allowzero: int = 0) -> Tensor:
    value, wanted = as_tensor(x), _ints(shape, "the shape of a Reshape")
    return value.reshape([value.shape[k] if n == 0 and not allowzero else n for k, n in enumerate(wanted)])


def _slice(x: Value, starts: Value, ends: Value, axes: Value = None, steps: Value = None) -> Tensor:
    value = as_tensor(x)
    first, last = _ints(starts, "the starts of a Slice"), _ints(ends, "the ends of a Slice")
    along = _ints(axes, "the axes of a Slice") or list(range(len(first)))
    by = _ints(steps, "the steps of a Slice") or [1] * len(first)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        if step < 0:
            size = int(value.shape[axis])
            places = list(range(size))[slice(start, end if end >= -size else None, step)]
            value = value.index_select(axis, torch.tensor(places, dtype=torch.int64))
        else:
            value = value[(slice(None),) * (axis % value.dim()) + (slice(start, end, step),)]
    return value


def _squeeze(x: Value, axes: Value = None, **given: Any) -> Tensor:
    along = _axes(axes, given.get("axes"), "the axes of a Squeeze")
    return as_tensor(x).squeeze(tuple(along)) if along else as_tensor(x).squeeze()


def _unsqueeze(x: Value, axes: Value = None, **given: Any) -> Tensor:
    value = as_tensor(x)
    along = _axes(axes, given.get("axes"), "the axes of an Unsqueeze")
    rank = value.dim() + len(along)
    for axis in sorted(a % rank for a in along):
        value = value.unsqueeze(axis)
    return value


def _split(
    x: Tensor, split: Value = None, axis: int = 0, num_outputs: int | None = None, **given: Any
) -> Sequence[Tensor]:
    parts = _axes(split, given.get("split"), "the parts of a Split")
    if parts:
        return torch.split(x, parts, axis)
    if num_outputs is None:
        raise UnsupportedModel("Split without parts and without num_outputs")
    return torch.split(x, -(-int(x.shape[axis]) // num_outputs), axis)


def _reduce(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axes: Value = None, keepdims: int = 1, noop_with_empty_axes: int = 0, **given: Any) -> Tensor:
        along = _axes(axes, given.get("axes"), "the axes of a reduction")
        if not along and noop_with_empty_axes:
            return x
        return function(x, tuple(along) or tuple(range(x.dim())), bool(keepdims))

    return reduce


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keep)
    return x


def _arg(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def pick(x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if select_last_index:
            raise UnsupportedModel("ArgMax or ArgMin with select_last_index")
        return function(x, axis, bool(keepdims))

    return pick


def _gather(x: Value, indices: Value, axis: int = 0) -> Tensor:
    value, places = as_tensor(x), as_tensor(indices).long()
    size = value.shape[axis]
    if axis == 0 and value.dim() == 2 and not isinstance(indices, np.ndarray):
        return F.embedding(torch.where(places < 0, places + size, places), value)
    picked = value.index_select(axis, torch.where(places < 0, places + size, places).reshape(-1))
    return picked.reshape((*value.shape[: axis % value.dim()], *places.shape, *value.shape[axis % value.dim() + 1 :]))


def _scatter_elements(x: Tensor, indices: Value, updates: Value, axis: int = 0, reduction: str = "none") -> Tensor:
    places, new = as_tensor(indices).long(), as_tensor(updates)
    if reduction == "none":
        return x.scatter(axis, places, new)
    kinds = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return x.scatter_reduce(axis, places, new, kinds[reduction])


def _pad(
    x: Tensor, pads: Value = None, value: Value = None, axes: Value = None, mode: str = "constant", **given: Any
) -> Tensor:
    amounts = _axes(pads, given.get("pads"), "the pads of a Pad")
    along = _ints(axes, "the axes of a Pad") or list(range(x.dim()))
    before, after = [0] * x.dim(), [0] * x.dim()
    for k, axis in enumerate(along):
        before[axis], after[axis] = amounts[k], amounts[k + len(along)]
    while mode != "constant" and before and not before[0] and not after[0] and len(before) > max(1, x.dim() - 2):
        before, after = before[1:], after[1:]
    both = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
    kinds = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
    fill = 0.0 if value is None else float(as_tensor(value).item()) if isinstance(value, np.ndarray) else value
    if isinstance(fill, Tensor):
        fill = float(given.get("value", 0.0)) if "value" in given else 0.0
    return F.pad(x, both, kinds[mode], fill if mode == "constant" else None)


def _resize(
    x: Tensor,
    roi: Value = None,
    scales: Value = None,
    sizes: Value = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: int = 0,
    **_: Any,
) -> Tensor:
    factors = None if scales is None or np.asarray(scales).size == 0 else [float(s) for s in np.asarray(scales)][2:]
    size = None if sizes is None else _ints(sizes, "the sizes of a Resize")[2:]
    way = (mode, coordinate_transformation_mode)
    kinds = {
        ("nearest", "asymmetric"): ("nearest", None), ("linear", "half_pixel"): ("bilinear", False),
        ("linear", "pytorch_half_pixel"): ("bilinear", False), ("linear", "align_corners"): ("bilinear", True),
        ("cubic", "half_pixel"): ("bicubic", False), ("cubic", "pytorch_half_pixel"): ("bicubic", False),
        ("cubic", "align_corners"): ("bicubic", True), ("nearest", "half_pixel"): ("nearest-exact", None),
    }  # fmt: skip
    if way not in kinds or (mode == "nearest" and way[1] == "asymmetric" and nearest_mode != "floor") or x.dim() != 4:
        raise UnsupportedModel(f"Resize of {x.dim() - 2} axes, {mode} {coordinate_transformation_mode} {nearest_mode}")
    kind, corners = kinds[way]
    keeps = {"recompute_scale_factor": False} if factors is not None else {}
    return F.interpolate(x, size, factors, kind, corners, antialias=bool(antialias), **keeps)


def _expand(x: Value, shape: Value) -> Tensor:
    value, wanted = as_tensor(x), _ints(shape, "the shape of an Expand")
    shape_of: Any = torch.broadcast_shapes  # it has no types
    return value.expand(shape_of(tuple(value.shape), tuple(wanted)))


def _cast(x: Value, to: int, **_: Any) -> Tensor:
    return as_tensor(x).to(_DTYPES[to])


def _constant_of_shape(shape: Value, value: Any = None) -> Tensor:
    fill = np.zeros(1, np.float32) if value is None else value
    return torch.full(_ints(shape, "the shape of a ConstantOfShape"), fill.item(), dtype=torch.from_numpy(fill).dtype)


def _range(start: Value, limit: Value, delta: Value) -> Tensor:
    first, end, step = (_ints(v, "the ends of a Range")[0] for v in (start, limit, delta))
    return torch.arange(first, end, step)


def _clip(x: Tensor, low: Value = None, high: Value = None, **given: Any) -> Tensor:
    least = as_tensor(low) if low is not None else given.get("min")
    most = as_tensor(high) if high is not None else given.get("max")
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        value = x if least is None else torch.maximum(x, torch.as_tensor(least))
        return value if most is None else torch.minimum(value, torch.as_tensor(most))
    return x.clamp(least, most)


def _flatten(x: Tensor, axis: int = 1) -> Tensor:
    lead = 1
    for extent in x.shape[: axis % (x.dim() + 1) if axis < 0 else axis]:
        lead *= extent
    return x.reshape(lead, -1)


def _topk(x: Tensor, k: Value, axis: int = -1, largest: int = 1, sorted: int = 1) -> Sequence[Tensor]:  # noqa: A002 - ONNX's name
    return torch.topk(x, _ints(k, "the k of a TopK")[0], axis, bool(largest), bool(sorted))


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def _prelu(x: Tensor, slope: Value) -> Tensor:
    return torch.where(x < 0, x * as_tensor(slope), x)


def _cumsum(x: Tensor, axis: Value, exclusive: int = 0, reverse: int = 0) -> Tensor:
    if exclusive or reverse:
        raise UnsupportedModel("CumSum that is exclusive or reverse")
    return torch.cumsum(x, _ints(axis, "the axis of a CumSum")[0])


def _one_hot(indices: Value, depth: Value, values: Value, axis: int = -1) -> Tensor:
    count = _ints(depth, "the depth of a OneHot")[0]
    off, on = as_tensor(values)
    hot = F.one_hot(as_tensor(indices).long() % count, count).movedim(-1, axis)
    return torch.where(hot.bool(), on, off)


def _trilu(x: Tensor, k: Value = None, upper: int = 1) -> Tensor:
    diagonal = _ints(k, "the k of a Trilu")[0] if k is not None else 0
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


def _depth_to_space(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    parts = x.reshape(n, blocksize, blocksize, c // blocksize**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // blocksize**2, h * blocksize, w * blocksize)


def _einsum(*values: Value, equation: str) -> Tensor:
    return torch.einsum(equation, *map(as_tensor, values))


def _identity(x: Value, *_: Value, **__: Any) -> Tensor:
    return as_tensor(x)


UNARY: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
            "Abs": torch.abs, "Acos": torch.acos, "Asin": torch.asin, "Atan": torch.atan, "Ceil": torch.ceil, "Cos": torch.cos,
            "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": F.hardswish,
            "IsInf": torch.isinf, "IsNaN": torch.isnan, "Log": torch.log, "Mish": F.mish, "Neg": torch.neg,
            "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round,
            "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus,
            "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
            "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True),
            "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True),
        }  # fmt: skip
BINARY: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
            "Add": torch.add, "And": torch.logical_and, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
            "Less": torch.lt, "LessOrEqual": torch.le, "MatMul": torch.matmul, "Mul": torch.mul, "Or": torch.logical_or,
            "Pow": torch.pow, "Sub": torch.sub, "Xor": torch.logical_xor,
        }  # fmt: skip
VARIADIC: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}  # fmt: skip
REDUCTIONS: Final[Mapping[str, Callable[..., Tensor]]] = {
            "ReduceMax": torch.amax, "ReduceMin": torch.amin, "ReduceMean": torch.mean, "ReduceSum": torch.sum,
            "ReduceProd": _prod, "ReduceLogSumExp": torch.logsumexp,
            "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
            "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
            "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
        }  # fmt: skip
OPERATORS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        **{name: _unary(f) for name, f in UNARY.items()},
        **{name: _binary(f) for name, f in BINARY.items()},
        **{name: _many(f) for name, f in VARIADIC.items()},
        **{name: _reduce(f) for name, f in REDUCTIONS.items()},
        "ArgMax": _arg(torch.argmax), "ArgMin": _arg(torch.argmin), "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm, "Cast": _cast, "CastLike": lambda x, y: as_tensor(x).to(as_tensor(y).dtype),
        "Clip": _clip, "Concat": lambda *v, axis: torch.cat([as_tensor(t) for t in v], axis),
        "ConstantOfShape": _constant_of_shape, "Conv": _conv, "ConvTranspose": _conv_transpose, "CumSum": _cumsum,
        "DepthToSpace": _depth_to_space, "Div": _div, "Dropout": _identity, "Einsum": _einsum,
        "Elu": lambda x, alpha=1.0: F.elu(x, alpha), "Expand": _expand, "Flatten": _flatten, "Gather": _gather,
        "GatherElements": lambda x, i, axis=0: torch.gather(as_tensor(x), axis, as_tensor(i).long()), "Gelu": _gelu,
        "Gemm": _gemm, "GroupNormalization": _group_norm,
        "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (x * alpha + beta).clamp(0, 1), "Identity": _identity,
        "InstanceNormalization": _instance_norm, "LayerNormalization": _layer_norm,
        "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
        "LogSoftmax": lambda x, axis=-1: torch.log_softmax(x, axis), "MaxPool": _max_pool, "Mod": _mod, "OneHot": _one_hot,
        "PRelu": _prelu, "Pad": _pad, "RMSNormalization": _rms_norm, "Range": _range, "Reshape": _reshape, "Resize": _resize,
        "ScatterElements": _scatter_elements, "Selu": lambda x, **_: F.selu(x), "Slice": _slice,
        "Softmax": lambda x, axis=-1: torch.softmax(x, axis), "Split": _split, "Squeeze": _squeeze,
        "Tile": lambda x, n: as_tensor(x).repeat(_ints(n, "the repeats of a Tile")), "TopK": _topk,
        "Transpose": lambda x, perm=None: as_tensor(x).permute(perm or tuple(reversed(range(as_tensor(x).dim())))),
        "Trilu": _trilu, "Unsqueeze": _unsqueeze,
        "Where": lambda c, a, b: torch.where(as_tensor(c), as_tensor(a), as_tensor(b)),
    }
)  # fmt: skip
"""Each operator of the ONNX domain that can be read."""
