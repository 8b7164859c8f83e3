"""Small kernels made by TVM alone, for tests of what loads and runs kernels. Imported in build workers only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm
from tvm import te
from tvm.script import tirx as T


def build(payload: bytes, out: Path) -> bytes:
    """Exports the kernel that the payload names."""
    cpu = tvm.get_global_func("target.llvm_get_system_cpu")()
    executable = tvm.compile(_KERNELS[payload.decode()](), target=tvm.target.Target({"kind": "llvm", "mcpu": str(cpu)}))
    executable.export_library(str(out))
    return payload


def _add(n: int, parts: int) -> Any:
    """c = a + b for n numbers, in parallel where there are parts."""
    a, b = te.placeholder((n,), "float32", name="a"), te.placeholder((n,), "float32", name="b")
    c = te.compute((n,), lambda i: a[i] + b[i], name="c")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([a, b, c]))
    (loop,) = schedule.get_loops(schedule.get_sblock("c"))
    if parts:
        outer, inner = schedule.split(loop, [parts, None])
        _, lanes = schedule.split(inner, [None, 16])
        schedule.parallel(outer)
        schedule.vectorize(lanes)
    return schedule.mod


def _workspace() -> Any:
    """b = reversed(2 a) + 1, with the 2 a in a buffer of its own."""
    n = 1 << 16
    a = te.placeholder((n,), "float32", name="a")
    doubled = te.compute((n,), lambda i: a[i] * 2.0, name="doubled")
    return te.create_prim_func([a, te.compute((n,), lambda i: doubled[n - 1 - i] + 1.0, name="b")])


@T.prim_func(s_tir=True)
def _missing(a: T.Buffer((64,), "float32")):  # type: ignore[no-untyped-def]
    """Calls a function that nobody registered, from every task."""
    for i in T.parallel(64):
        with T.sblock("s"):
            v = T.axis.spatial(64, i)
            T.reads(a[v])
            T.writes(a[v])
            T.evaluate(T.call_packed("tpopt_tests.no_such_function", v))


_KERNELS = {
    "parallel": lambda: _add(1 << 14, 64),
    "large": lambda: _add(1 << 20, 64),
    "serial": lambda: _add(16, 0),
    "workspace": _workspace,
    "missing": lambda: _missing,
}
