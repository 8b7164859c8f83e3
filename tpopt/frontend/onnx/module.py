"""Runs the nodes of an ONNX graph by torch. What depends on shapes and constants alone is computed on the host.

ONNX computes shapes with tensors. Values that are known without the inputs' data (shapes, small integer constants and
what is made of them) stay numpy arrays here, and ONNX's reference evaluator computes them; so a reshape to a computed
shape is one with plain integers by the time that torch sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tpopt.errors import UnsupportedModel
from tpopt.frontend.onnx.operators import OPERATORS, Value, as_tensor

HOST_ELEMENTS: Final = 64
"""Integer constants of at most so many elements are taken for shapes, axes and the like."""
HOST_FLOATS: Final = 8
"""And so many floats for the factors of a resize."""
_FOREIGN: Final = frozenset({"Shape", "Size", "Constant"})


class OnnxModule(torch.nn.Module):
    """One graph; initializers are buffers. ``missing`` names the operators that are not in the table."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        self._opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
        self._nodes = list(graph.node)
        self._host: dict[str, np.ndarray[Any, Any]] = {}
        self._names: dict[str, str] = {}
        for initializer in graph.initializer:
            self._constant(initializer.name, numpy_helper.to_array(initializer))
        known = {i.name for i in graph.initializer}
        self._inputs = [i.name for i in graph.input if i.name not in known]
        self._outputs = [o.name for o in graph.output]
        kinds = {(n.op_type if n.domain in ("", "ai.onnx") else f"{n.domain}.{n.op_type}") for n in self._nodes}
        self.missing = sorted(kinds - OPERATORS.keys() - _FOREIGN)
        self.eval()

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> None:
        if _is_small(value):
            self._host[name] = value
            return
        self._names[name] = f"c{len(self._names)}_{''.join(c if c.isalnum() else '_' for c in name)}"
        self.register_buffer(self._names[name], torch.from_numpy(np.array(value)))

    def forward(self, *inputs: torch.Tensor) -> tuple[Any, ...]:
        """Results in the order of the graph's outputs."""
        values: dict[str, Value] = {"": None, **self._host}
        values.update({name: getattr(self, attribute) for name, attribute in self._names.items()})
        values.update(zip(self._inputs, inputs, strict=True))
        for node in self._nodes:
            results = self._run(node, [values[n] for n in node.input])
            values.update(zip(node.output, results, strict=False))
        return tuple(as_tensor(values[n]) for n in self._outputs)

    def _run(self, node: onnx.NodeProto, given: list[Value]) -> tuple[Value, ...]:
        attributes = {a.name: _attribute(a) for a in node.attribute}
        if node.op_type == "Shape":
            start, end = attributes.get("start", 0), attributes.get("end")
            assert given[0] is not None
            return (np.array(tuple(given[0].shape)[start:end], dtype=np.int64),)
        if node.op_type == "Size":
            assert given[0] is not None
            return (np.array(int(np.prod(tuple(given[0].shape))), dtype=np.int64),)
        if all(v is None or isinstance(v, np.ndarray) for v in given):
            return self._on_host(node, given)
        function: Callable[..., Any] = OPERATORS[node.op_type]
        try:
            made = function(*given, **attributes)
        except (TypeError, KeyError, IndexError) as error:
            what = f"{node.op_type} {node.name or node.output[0]}"
            raise UnsupportedModel(f"ONNX node {what} has attributes that tpopt cannot read: {error}") from error
        return tuple(made) if isinstance(made, (tuple, list)) else (made,)

    def _on_host(self, node: onnx.NodeProto, given: list[Value]) -> tuple[Value, ...]:
        arrays = {name: np.asarray(v) for name, v in zip(node.input, given, strict=True) if name}
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in arrays.items()
        ]
        outputs = [onnx.ValueInfoProto(name=n) for n in node.output]
        graph = helper.make_graph([node], "host", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        results = ReferenceEvaluator(model).run(None, arrays)
        return tuple(a if _is_small(a := np.asarray(r)) else as_tensor(a) for r in results)


def _is_small(value: np.ndarray[Any, Any]) -> bool:
    """Whether a constant may be a shape, an axis, a scale: something that an operator wants as plain numbers."""
    return value.size <= (HOST_ELEMENTS if value.dtype.kind in "iub" else HOST_FLOATS)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value


def random_inputs(model: onnx.ModelProto, seed: int) -> tuple[torch.Tensor, ...]:
    """One tensor for each input that is no initializer; integers are 0 or 1, which index anything."""
    known = {i.name for i in model.graph.initializer}
    generator = torch.Generator().manual_seed(seed)
    made = []
    for declared in model.graph.input:
        if declared.name in known:
            continue
        kind = declared.type.tensor_type
        shape = [d.dim_value or 1 for d in kind.shape.dim]
        dtype = torch.from_numpy(np.zeros(1, helper.tensor_dtype_to_np_dtype(kind.elem_type))).dtype
        if dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return tuple(made)
