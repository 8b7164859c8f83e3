"""ATen calls as IR attributes and back: the one place that knows both vocabularies.

An operator is named ``namespace.operator.overload`` (``aten.relu.default``, ``mkldnn._linear_pointwise.default``).
Attributes hold tensors as :class:`~tpopt.ir.terms.Tensor`, run-time integers as :class:`~tpopt.ir.index.Index`, and
torch's own enumerations as strings that start with ``torch.``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tpopt.errors import InvalidProgram, UnsupportedInput
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, evaluate
from tpopt.ir.stages import Attribute, Opaque
from tpopt.ir.terms import Tensor

_TO_TORCH = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.C128: torch.complex128,
    DType.C64: torch.complex64,
    DType.I64: torch.int64,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.U8: torch.uint8,
    DType.BOOL: torch.bool,
}
_FROM_TORCH = {t: d for d, t in _TO_TORCH.items()}
_ENUMERATIONS = (torch.memory_format, torch.layout)


def torch_dtype(dtype: DType) -> torch.dtype:
    """torch's name of an element type."""
    return _TO_TORCH[dtype]


def from_torch_dtype(dtype: torch.dtype) -> DType:
    """Raises :class:`UnsupportedInput` for types the IR has no name for."""
    if dtype not in _FROM_TORCH:
        raise UnsupportedInput(f"element type {dtype} is not supported; supported: {', '.join(map(str, _FROM_TORCH))}")
    return _FROM_TORCH[dtype]


def encode(value: Any, leaf: Callable[[Any], Attribute | None]) -> Attribute:
    """An operator's argument as an attribute.

    ``leaf`` turns what only the caller understands (graph nodes, symbolic integers) into an attribute, or returns
    ``None`` to leave it to this function. Raises :class:`InvalidProgram` for anything else.
    """
    known = leaf(value)
    if known is not None:
        return known
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    if isinstance(value, torch.dtype):
        return from_torch_dtype(value)
    if isinstance(value, torch.device):
        return f"torch.device:{value}"
    if isinstance(value, _ENUMERATIONS):
        return str(value)
    if isinstance(value, (list, tuple)):
        return tuple(encode(v, leaf) for v in value)
    raise InvalidProgram(
        f"operator argument {value!r} of type {type(value).__name__} cannot be written as an attribute"
    )


def decode(value: Attribute, tensors: Mapping[str, torch.Tensor], symbols: Mapping[str, int]) -> Any:
    """The argument to call torch with: tensors by name, run-time integers evaluated."""
    if isinstance(value, Tensor):
        return tensors[value.name]
    if isinstance(value, Index):
        return evaluate(value, symbols)
    if isinstance(value, DType):
        return _TO_TORCH[value]
    if isinstance(value, str) and value.startswith("torch."):
        rest = value.removeprefix("torch.")
        return torch.device(rest.removeprefix("device:")) if rest.startswith("device:") else getattr(torch, rest)
    if isinstance(value, tuple):
        return [decode(v, tensors, symbols) for v in value]
    return value


def resolve(target: str) -> Any:
    """The torch operator of that name. Raises :class:`InvalidProgram` when this torch has none."""
    namespace, _, rest = target.partition(".")
    name, _, overload = rest.rpartition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except (AttributeError, RuntimeError) as error:
        raise InvalidProgram(f"torch {torch.__version__} has no operator {target}") from error


def target_name(operator: Any) -> str:
    """``namespace.operator.overload`` of a torch operator."""
    namespace, _, name = operator._schema.name.partition("::")
    return f"{namespace}.{name}.{operator._overloadname}"


def flatten_outputs(result: Any) -> list[torch.Tensor]:
    """Tensors among an operator's results, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for r in result for t in flatten_outputs(r)] if isinstance(result, (list, tuple)) else []


def call(stage: Opaque, tensors: Mapping[str, torch.Tensor], symbols: Mapping[str, int]) -> list[torch.Tensor]:
    """Runs an opaque stage in torch; returns one tensor for each of ``stage.outs``."""
    args = [decode(a, tensors, symbols) for a in stage.args]
    kwargs = {k: decode(v, tensors, symbols) for k, v in stage.kwargs}
    return flatten_outputs(resolve(stage.target)(*args, **kwargs))


def to_numpy(value: torch.Tensor) -> Any:
    """A numpy array over the same memory where possible; bf16 as its bits in ``uint16``."""
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.view(torch.uint16).numpy() if plain.dtype is torch.bfloat16 else plain.numpy()


def from_numpy(array: Any, dtype: DType) -> torch.Tensor:
    """The tensor of that type over the same memory (``uint16`` bits for bf16)."""
    import numpy as np

    writable = array if array.flags.writeable else np.array(array)
    plain = torch.from_numpy(np.ascontiguousarray(writable).reshape(array.shape))
    return plain.view(torch.bfloat16) if dtype is DType.BF16 else plain
