"""A kernel as a TVM function: arguments, flat views of their memory, the body."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tpopt.backend.generated.physical import LOGICAL, in_order
from tpopt.backend.generated.plan import KernelPlan, dense_strides
from tpopt.backend.generated.request import FUNCTION
from tpopt.backend.generated.sizes import shape
from tpopt.backend.tvm.code import INDEX
from tpopt.backend.tvm.elements import PASSED, STORED
from tpopt.backend.tvm.nests import Writer
from tpopt.backend.tvm.operands import Operand
from tpopt.backend.tvm.products import ProductWriter
from tpopt.ir import DType


def kernel_function(plan: KernelPlan) -> Any:
    """The function of a plan. It takes the tensors of ``plan.reads``, the packed constants, then ``plan.outs``."""
    parameters: list[Any] = []
    views: list[Any] = []
    operands: dict[str, Operand] = {}

    def add(name: str, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        axes = LOGICAL if name in plan.channels_last else range(len(shape))
        argument, view = _argument(f"a{len(parameters)}", dtype, in_order(shape, axes), in_order(strides, axes))
        parameters.append(argument)
        views.append(tirx.DeclBuffer(view, data=tirx.buffer_data(argument)))
        operands[name] = Operand(view, plan.steps.get(name, strides), dtype, foreign=name in plan.foreign)

    for tensor in plan.reads:
        add(tensor.name, tensor.dtype, shape(tensor), plan.strides.get(tensor.name, dense_strides(shape(tensor))))
    for pack in plan.packs:
        add(pack.name, pack.read.tensor.dtype, pack.shape, dense_strides(pack.shape))
    for parts in plan.products.constants if plan.products is not None else ():
        add(parts.name, DType.BF16, parts.shape, dense_strides(parts.shape))
    for tensor in plan.outs:
        add(tensor.name, tensor.dtype, shape(tensor), dense_strides(shape(tensor)))
    writer = ProductWriter(plan, operands) if plan.products is not None else Writer(plan, operands)
    body = writer.run()
    function = tirx.PrimFunc(parameters, tirx.SeqStmt([*views, body]))
    return function.with_attr("global_symbol", FUNCTION).with_attr("tirx.noalias", True)


def _argument(name: str, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Any, Any]:
    """The parameter as it is passed, and a flat view of its memory in the type that it is stored in."""
    words = 2 if dtype.is_complex else 1
    passed = (*shape, 2) if dtype.is_complex else shape
    steps = (*(2 * s for s in strides), 1) if dtype.is_complex else strides
    span = 1 + sum((e - 1) * s for e, s in zip(shape, strides, strict=True))
    given = None if steps == dense_strides(passed) else _strides(name, passed, steps)
    size = dtype.itemsize // words  # a slice of a tensor starts at any element: no more alignment may be assumed
    argument = tirx.decl_buffer(passed, PASSED[dtype], name, strides=given, data_alignment=size, layout=None)
    flat, memory = (max(1, span) * words,), tirx.buffer_data(argument)
    view = tirx.decl_buffer(flat, STORED[dtype], f"{name}_flat", data=memory, data_alignment=size, layout=None)
    return argument, view


def _strides(name: str, shape: tuple[int, ...], steps: tuple[int, ...]) -> list[Any]:
    """Strides as TVM checks them: what torch reports for an axis of one element says nothing."""
    axes = enumerate(zip(shape, steps, strict=True))
    return [step if size > 1 else tirx.Var(f"{name}_step{n}", INDEX) for n, (size, step) in axes]
