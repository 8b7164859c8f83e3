"""Stages other than Compute: scatter, scan, conditional, sort, top-k, kernel and opaque."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tpopt.errors import InvalidProgram, UnsupportedInput
from tpopt.ir.interpret.affine import number
from tpopt.ir.interpret.bind import bind_symbols
from tpopt.ir.interpret.compute import run_terms
from tpopt.ir.interpret.space import Box, Space, clipped
from tpopt.ir.interpret.state import State, name_of
from tpopt.ir.program import Array, Program
from tpopt.ir.stages import Cond, Kernel, Opaque, Scan, Scatter, Sort, TopK
from tpopt.ir.walk import stage_reads

RunBody = Callable[[State, Program, list[Array]], tuple[Array, ...]]


def run_scatter(state: State, stage: Scatter) -> tuple[Array, ...]:
    """``base`` with the values written in row-major order of the loops."""
    terms = state.terms(stage)
    box: Box = {i: (0, number(i.extent, state.symbols)) for i in terms.iters}
    scope = state.scope(terms, box)
    shape = tuple(box[i][1] for i in stage.loops)
    (value,) = run_terms(scope, stage.loops, (stage.value,))
    space = scope.space(stage.loops, box)
    active = np.broadcast_to(True if stage.guard is None else space.holds(stage.guard.bounds), shape).ravel()
    out = np.array(state.array(stage.base), order="C")
    linear = np.broadcast_to(_linear(space, stage, out.shape, active.reshape(shape)), shape).ravel()
    values = np.asarray(value).reshape(-1)
    if not active.all():
        linear, values = linear[active], values[active]
    state.arithmetic.scatter(stage.op, out.reshape(-1), linear, values, stage.out.dtype)
    return (out,)


def _linear(space: Space, stage: Scatter, shape: tuple[int, ...], active: Array) -> Array:
    """Row-major positions in the output. Raises :class:`InvalidProgram` for an active one outside it."""
    where = [space.values(i) for i in stage.at]
    inside, outside = clipped(where, shape)
    if outside is not None and (outside & active).any():
        point = np.argwhere(np.broadcast_to(outside & active, active.shape))[0]
        at = [int(np.broadcast_to(w, active.shape)[tuple(point)]) for w in where]
        raise InvalidProgram(f"stage {name_of(stage)}: scatters to {at}, outside {list(shape)}; guard it")
    linear: Array = np.zeros((1,) * len(space.axes), np.int64)
    for position, extent in zip(inside, shape, strict=True):
        linear = linear * extent + position
    return linear


def run_scan(state: State, stage: Scan, run: RunBody) -> tuple[Array, ...]:
    """The carried loop; stacked outputs get the step as their first axis."""
    steps = number(stage.over.extent, state.symbols)
    carries = [state.array(t) for t in stage.init]
    xs, captures = [state.array(t) for t in stage.xs], [state.array(t) for t in stage.captures]
    stacked = [
        np.zeros([number(e, state.symbols) for e in t.shape], state.arithmetic.storage(t.dtype))
        for t in stage.outs[len(carries) :]
    ]
    for step in range(steps):
        inner = state.nested({}, **{stage.over.name: step})
        results = run(inner, stage.body, [*carries, *(x[step] for x in xs), *captures])
        carries = list(results[: len(carries)])
        for target, value in zip(stacked, results[len(carries) :], strict=True):
            target[step] = value
    return (*carries, *stacked)


def run_cond(state: State, stage: Cond, run: RunBody) -> tuple[Array, ...]:
    """One of the two branches."""
    chosen = stage.then if bool(state.array(stage.predicate).reshape(())) else stage.otherwise
    return run(state.nested({}), chosen, [state.array(t) for t in stage.captures])


def run_sort(state: State, stage: Sort) -> tuple[Array, ...]:
    """Sorted values and source positions; always stable."""
    source = state.array(stage.source)
    if source.ndim == 0:
        return source, np.zeros((), np.int64)
    order = state.arithmetic.order(source, stage.source.dtype, stage.axis, stage.descending)
    return np.take_along_axis(source, order, stage.axis), order.astype(np.int64)


def run_topk(state: State, stage: TopK) -> tuple[Array, ...]:
    """The first ``k`` of a stable sort, sorted whether or not the stage asks for it; of equal values, the hook's."""
    source, k = state.array(stage.source), number(stage.k, state.symbols)
    if source.ndim == 0:
        return source, np.zeros((), np.int64)
    if not 0 <= k <= source.shape[stage.axis]:
        raise UnsupportedInput(
            f"top-k of {stage.source.name}: k = {k}, but axis {stage.axis} has {source.shape[stage.axis]}"
        )
    order = state.arithmetic.order(source, stage.source.dtype, stage.axis, stage.largest)
    order = np.take(order, np.arange(k), axis=stage.axis)
    values = np.take_along_axis(source, order, stage.axis)
    if state.top is not None:
        chosen = state.top(stage, source, k)
        others = np.take_along_axis(source, chosen, stage.axis)
        if np.array_equal(np.sort(others, stage.axis), np.sort(values, stage.axis), equal_nan=True):
            order, values = chosen, others
    return values, order.astype(np.int64)


def run_kernel(state: State, stage: Kernel, run: Callable[[State, Kernel], None]) -> tuple[Array, ...]:
    """The algebra that the kernel stands for."""
    if not stage.defines:
        raise InvalidProgram(
            f"kernel {name_of(stage)} ({stage.implementation}) carries no algebra: it cannot be interpreted"
        )
    inner = state.nested({t.name: state.array(t) for t in stage.reads})
    run(inner, stage)
    return tuple(inner.array(t) for t in stage.outs)


def run_opaque(state: State, stage: Opaque) -> tuple[Array, ...]:
    """The caller's hook; symbols that only the outputs carry are bound from what it returns."""
    if state.opaque is None:
        raise UnsupportedInput(
            f"stage {name_of(stage)} calls {stage.target}, which has no algebra: pass opaque= to run it"
        )
    outs = state.opaque(stage, [state.array(t) for t in stage_reads(stage)])
    if len(outs) != len(stage.outs):
        raise UnsupportedInput(f"opaque= returned {len(outs)} arrays for {stage.target}; expected {len(stage.outs)}")
    state.symbols.update(bind_symbols([(t, o.shape) for t, o in zip(stage.outs, outs, strict=True)], state.symbols))
    return tuple(outs)
