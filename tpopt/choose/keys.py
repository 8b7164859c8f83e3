"""Names of prices: equal keys promise equal work on equal shapes, dtypes and layouts."""

from __future__ import annotations

from tpopt.ir import Index, Kernel, Opaque, Tensor
from tpopt.ir.dtypes import DType
from tpopt.ir.stages import Attribute


def attribute_key(value: Attribute) -> str:
    """Canonical text of an argument; tensors by shape, dtype and structure, not by name."""
    if isinstance(value, Tensor):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, tuple):
        return f"({','.join(attribute_key(v) for v in value)})"
    if isinstance(value, (Index, DType)):
        return str(value)
    return repr(value)


def opaque_key(stage: Opaque, layout: str) -> str:
    """Key of an original operator whose rank-4 operands lie in ``layout``."""
    args = ",".join(attribute_key(a) for a in stage.args)
    kwargs = ",".join(f"{k}={attribute_key(v)}" for k, v in stage.kwargs)
    return f"{stage.target}({args};{kwargs}){'@' + layout if layout else ''}"


def kernel_key(stage: Kernel, layout: str) -> str:
    """Key of a library kernel: implementation, parameters (names of tensors left out) and operand shapes."""
    reads = ",".join(attribute_key(t) for t in stage.reads)
    outs = ",".join(attribute_key(t) for t in stage.outs)
    own = ",".join(f"{k}={attribute_key(v)}" for k, v in stage.parameters if not k.startswith("name_"))
    return f"{stage.implementation}({reads};{own})->{outs}{'@' + layout if layout else ''}"
