"""Stages of the other kinds: scatter, scan, cond, sort, top-k, kernels and opaque calls."""

from __future__ import annotations

from collections.abc import Callable

import torch

from programs.maker import Env, Maker, Value
from tpopt.ir import (
    Builder,
    Compute,
    Cond,
    DType,
    Iter,
    Kernel,
    Lookup,
    Opaque,
    Program,
    Scalar,
    Scan,
    Scatter,
    Sort,
    Symbol,
    Tensor,
    TopK,
    apply,
    cast,
    guard,
    index,
    position,
)

Combine = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
COMBINE: dict[str, Combine] = {
    "set": lambda a, b: b,
    "add": torch.add,
    "mul": torch.mul,
    "max": torch.maximum,
    "min": torch.minimum,
}


def scatter(m: Maker) -> None:
    """Values written into rows of a base at looked-up positions."""
    base = m.pick(
        lambda v: (
            len(v.shape) > 0 and v.dtype in (DType.F32, DType.F64, DType.I64) and v.bound < 50 and m.count(v.shape) > 0
        )
    )
    if base is None:
        return
    values = [
        v for v in m.values if v.dtype is base.dtype and v.shape[1:] == base.shape[1:] and v.shape and v.bound < 50
    ]
    source = m.random.choice(values)
    ids = m.positions(source.shape[:1], base.shape[0])
    loops = m.loops(source.shape)
    op = m.random.choice(tuple(COMBINE))
    row = Lookup(ids.tensor, (index(loops[0]),), index(0), index(base.shape[0]))
    limits = guard((m.random.choice((0, 1)), loops[0], source.shape[0])) if m.random.random() < 0.5 else None
    limits = None if limits is None or not limits.bounds else limits
    value: Scalar = source.tensor.at(list(loops))
    value = apply("tanh", value) if base.dtype.is_float else apply("mod", value, 3)
    out = Tensor(m.name("s"), base.shape, base.dtype)
    names, skip = (base.tensor.name, ids.tensor.name, source.tensor.name), 0 if limits is None else 1

    def run(env: Env) -> list[torch.Tensor]:
        result, rows, added = env[names[0]].clone(), env[names[1]], env[names[2]]
        added = added.tanh() if added.is_floating_point() else added.remainder(3)
        for n in range(skip, len(rows)):
            result[rows[n]] = COMBINE[op](result[rows[n]], added[n])
        return [result]

    top = base.bound + 3 * len(m.inputs[ids.tensor]) if op == "add" else base.bound * 3 ** len(m.inputs[ids.tensor]) + 3
    stage = Scatter(out, base.tensor, op, loops, (index(row), *map(index, loops[1:])), value, limits)
    m.add(stage, run, [(-top, top, base.exact and op in ("max", "min") and not base.dtype.is_float, False)])


def scan(m: Maker) -> None:
    """A recurrence over the first axis, with a capture and, at times, the step itself."""
    xs = m.pick(lambda v: len(v.shape) > 0 and v.dtype in (DType.F32, DType.F64))
    if xs is None:
        return
    row, dtype = xs.shape[1:], xs.dtype
    start, held = m.floats(row, dtype), m.floats((), dtype)
    step = Symbol(m.name("t"), 0, None)
    over = Iter(step.name, xs.shape[0])
    inner = Builder()
    h, x, w = (Tensor(inner.name(n), s, dtype) for n, s in (("h", row), ("x", row), ("w", ())))
    uses_step = m.random.random() < 0.4

    def body(*i: Iter) -> Scalar:
        term = apply("tanh", apply("add", apply("mul", h.at(list(i)), 0.5), apply("tanh", x.at(list(i))), w.at([])))
        return apply("add", term, apply("mul", position(step, dtype), 0.25)) if uses_step else term

    carry = inner.compute("c", row, body)
    stacked = inner.compute("y", row, lambda *i: apply("sin", carry.at(list(i))))
    nested = Program("step", (h, x, w), (), tuple(inner.stages), (carry, stacked), symbols=(step,) if uses_step else ())
    outs = Tensor(m.name("h"), row, dtype), Tensor(m.name("y"), xs.shape, dtype)
    names = xs.tensor.name, start.tensor.name, held.tensor.name

    def run(env: Env) -> list[torch.Tensor]:
        state, ys = env[names[1]], []
        for n, one in enumerate(env[names[0]]):
            state = torch.tanh(state * 0.5 + one.tanh() + env[names[2]]) + (n * 0.25 if uses_step else 0.0)
            ys.append(state.sin())
        return [state, torch.stack(ys) if ys else env[names[0]].clone()]

    stage = Scan(outs, (start.tensor,), (xs.tensor,), (held.tensor,), over, nested)
    top = start.bound + 1 + m.dim(xs.shape[0]) * 0.25
    m.add(stage, run, [(-top, top, False, False), (-1, 1, False, False)])


def cond(m: Maker) -> None:
    """One of two branches over the same capture."""
    value = m.pick(lambda v: v.dtype.is_float)
    if value is None:
        return
    choice = m.bools(())
    branches = []
    for name, function in (("then", "cos"), ("otherwise", "erf")):
        inner = Builder()
        x = Tensor(inner.name("x"), value.shape, value.dtype)
        out = inner.compute("y", value.shape, lambda *i, x=x, function=function: apply(function, x.at(list(i))))
        branches.append(Program(name, (x,), (), tuple(inner.stages), (out,)))
    out, names = Tensor(m.name("d"), value.shape, value.dtype), (choice.tensor.name, value.tensor.name)
    m.add(
        Cond((out,), choice.tensor, (value.tensor,), *branches),
        lambda e: [e[names[1]].cos() if e[names[0]] else e[names[1]].erf()],
        [(-1, 1, False, False)],
    )


def _ordered(v: Value) -> bool:
    return v.distinct and len(v.shape) > 0


def sort(m: Maker) -> None:
    """A tensor sorted along an axis, with the positions."""
    value = m.pick(_ordered)
    if value is None:
        return
    axis, down, name = m.random.randrange(len(value.shape)), m.random.random() < 0.5, value.tensor.name
    outs = Tensor(m.name("o"), value.shape, value.dtype), Tensor(m.name("q"), value.shape, DType.I64)
    extent = m.dim(value.shape[axis])
    m.add(
        Sort(*outs, value.tensor, axis, down),
        lambda e: list(e[name].sort(dim=axis, descending=down, stable=True)),
        [(value.low, value.high, True, True), (0, max(extent - 1, 0), True, False)],
    )


def top(m: Maker) -> None:
    """The largest or smallest along an axis, with the positions."""
    value = m.pick(lambda v: _ordered(v) and m.count(v.shape) > 0)
    if value is None:
        return
    axis, largest, name = m.random.randrange(len(value.shape)), m.random.random() < 0.5, value.tensor.name
    extent = value.shape[axis]
    k = m.random.randint(1, extent) if isinstance(extent, int) else 1
    shape = tuple(k if a == axis else e for a, e in enumerate(value.shape))
    outs = Tensor(m.name("o"), shape, value.dtype), Tensor(m.name("q"), shape, DType.I64)
    m.add(
        TopK(*outs, value.tensor, k, axis, largest),
        lambda e: list(e[name].topk(k, axis, largest)),
        [(value.low, value.high, True, True), (0, m.dim(extent), True, False)],
    )


def kernel(m: Maker) -> None:
    """A library call that keeps its algebra: softplus of a scaled tensor in two private steps."""
    value = m.pick(lambda v: v.dtype in (DType.F32, DType.F64))
    if value is None:
        return
    inner = Builder([value.tensor.name])
    scaled = inner.compute("scaled", value.shape, lambda *i: apply("tanh", value.tensor.at(list(i))))
    loops = m.loops(value.shape)
    out, name = Tensor(m.name("f"), value.shape, value.dtype), value.tensor.name
    last = Compute((out,), loops, (apply("log1p", apply("exp", scaled.at(list(loops)))),))
    stage = Kernel(
        (out,), "library softplus", (value.tensor,), (*inner.stages, last), (("scale", 1.0), ("fused", True)), ("", "")
    )
    m.add(stage, lambda e: [torch.nn.functional.softplus(e[name].tanh())], [(0, 1.4, False, False)])


def opaque(m: Maker) -> None:
    """An ATen call kept whole."""
    value = m.pick(lambda v: v.dtype in (DType.F32, DType.F64))
    if value is None:
        return
    out, name = Tensor(m.name("z"), value.shape, value.dtype), value.tensor.name
    stage = Opaque((out,), "aten.clamp.default", (value.tensor, -0.5), (("max", 1.5),))
    m.add(stage, lambda e: [e[name].clamp(-0.5, 1.5)], [(-0.5, 1.5, value.exact, False)])


def widened(m: Maker) -> None:
    """Real numbers as complex ones."""
    value = m.pick(lambda v: v.dtype in (DType.F32, DType.F64) and v.bound < 50)
    if value is None:
        return
    loops, dtype = m.loops(value.shape), value.dtype.complex
    body = apply("complex", value.tensor.at(list(loops)), cast(value.tensor.at(list(loops)), value.dtype))
    out, name = Tensor(m.name("z"), value.shape, dtype), value.tensor.name
    top_ = 2 * value.bound
    m.add(
        Compute((out,), loops, (body,)),
        lambda e: [torch.complex(e[name], e[name])],
        [(-top_, top_, value.exact, False)],
    )
