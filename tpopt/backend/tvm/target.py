"""The machine to generate for, and TVM's passes from a function to an object file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from tpopt.errors import KernelUnsupported

TVM_VERSION = "0.27"


def check_version() -> None:
    """Raises :class:`KernelUnsupported` for a TVM whose interfaces these modules were not written for."""
    if not tvm.__version__.startswith(TVM_VERSION):
        raise KernelUnsupported(
            f"apache-tvm {tvm.__version__} is installed, expected {TVM_VERSION}: install tpopt anew"
        )


@cache
def host_target() -> Any:
    """This CPU as TVM's target."""
    cpu = tvm.get_global_func("target.llvm_get_system_cpu")()
    return tvm.target.Target({"kind": "llvm", "mcpu": str(cpu)})


@cache
def has_feature(name: str) -> bool:
    """Whether this CPU has a feature, under LLVM's name for it."""
    return bool(tvm.get_global_func("target.target_has_feature")(name, host_target()))


def on_gpu() -> bool:
    """Whether code is written for a GPU: inside of ``with target``, as TVM has it."""
    target = tvm.target.Target.current(allow_none=True)
    return target is not None and target.kind.name == "cuda"


def host_module(function: Any, target: Any | None = None) -> Any:
    """Machine code of one function for a CPU, as TVM's module."""
    target = target or host_target()
    transform = tirx.transform
    module = tvm.IRModule.from_expr(function)
    for step in (
        transform.BindTarget(target.with_host(target)),
        transform.AnnotateEntryFunc(),
        transform.SplitHostDevice(),
        transform.MakePackedAPI(),
        transform.LowerTVMBuiltin(),
    ):
        module = step(module)
    return tvm.get_global_func("target.build.llvm")(module, target)


def write_object(module: Any, path: Path) -> None:
    """Writes a module as an object file."""
    module.write_to_file(str(path), "o")
