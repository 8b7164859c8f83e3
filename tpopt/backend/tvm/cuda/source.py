"""A plan as CUDA C++: parameters, flat views of their memory, the body, and the head that a compiler needs."""

from __future__ import annotations

from typing import Any, Final

import tvm
from tvm import tirx
from tvm.ir import PointerType, PrimType

from tpopt.backend.cuda.plan import GridPlan
from tpopt.backend.generated.plan import dense_strides
from tpopt.backend.generated.request import FUNCTION
from tpopt.backend.generated.sizes import shape
from tpopt.backend.tvm.cuda.grids import GridWriter
from tpopt.backend.tvm.elements import STORED
from tpopt.backend.tvm.operands import Operand
from tpopt.ir import Tensor

HEAD: Final = """#ifdef __CUDACC_RTC__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned int uint;
typedef unsigned short ushort;
#else
#include <stdint.h>
#endif
#ifndef CUDART_INF_F
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000LL)
#define CUDART_NAN __longlong_as_double(0x7ff8000000000000LL)
#endif
"""
"""No header but those of the compiler itself: NVRTC has no others."""
HALF: Final = "#include <cuda_fp16.h>\n"
"""Takes a compiler half a second to read."""
_KERNEL: Final = 'extern "C" __global__'
_DEVICE_LAUNCH: Final = 2


def cuda_source(plan: GridPlan, arch: str) -> str:
    """The source of a plan's kernel. It takes pointers to the tensors of ``plan.reads``, then of ``plan.outs``."""
    parameters: list[Any] = []
    views: list[Any] = []
    operands: dict[str, Operand] = {}
    target = tvm.target.Target({"kind": "cuda", "arch": arch})

    def add(tensor: Tensor, strides: tuple[int, ...]) -> None:
        element, words = STORED[tensor.dtype], 2 if tensor.dtype.is_complex else 1
        span = 1 + sum((e - 1) * s for e, s in zip(shape(tensor), strides, strict=True))
        name = f"a{len(parameters)}"
        parameter = tirx.Var(name, PointerType(PrimType(element), "global"))
        view = tirx.decl_buffer((max(1, span) * words,), element, f"{name}_flat", layout=None)
        parameters.append(parameter)
        views.append(tirx.DeclBuffer(view, data=parameter))
        operands[tensor.name] = Operand(view, plan.steps.get(tensor.name, strides), tensor.dtype)

    for tensor in plan.reads:
        add(tensor, plan.strides.get(tensor.name, dense_strides(shape(tensor))))
    for tensor in plan.outs:
        add(tensor, dense_strides(shape(tensor)))
    with target:
        body = GridWriter(plan, operands).run()
    function = tirx.PrimFunc(parameters, tirx.SeqStmt([*views, body]))
    attributes = {
        "global_symbol": FUNCTION,
        "tirx.noalias": True,
        "calling_conv": _DEVICE_LAUNCH,
        "tirx.is_global_func": True,
        "target": target,
        "tirx.kernel_launch_params": ["blockIdx.x", "threadIdx.x"],
    }
    for key, value in attributes.items():
        function = function.with_attr(key, value)
    built = tvm.get_global_func("target.build.cuda")(tvm.IRModule({FUNCTION: function}), target)
    source = str(built.inspect_source())
    text = source[source.rindex(_KERNEL) :]
    return HEAD + HALF * ("half" in text) + text
