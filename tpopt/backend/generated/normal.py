"""Rewrites a stage into the form that is generated: sizes known, reductions that need two passes as two."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tpopt.backend.generated.sizes import extent
from tpopt.errors import KernelUnsupported
from tpopt.ir import Apply, Compute, Const, Iter, Kernel, Program, Reduce, Scalar, const
from tpopt.ir.digest import kernel_program
from tpopt.ir.rename import symbols_used
from tpopt.ir.walk import fresh_name, postorder, rebuild, rename_bound


def algebra(stage: Kernel) -> Program:
    """The algebra of a kernel. Raises :class:`KernelUnsupported` where its sizes are not known numbers."""
    used = symbols_used(stage)
    if used:
        raise KernelUnsupported(f"the size {used[0].name} is not known before the model runs")
    return kernel_program(stage)


def two_pass(stage: Compute) -> Compute:
    """Variances and sums of exponentials by two reductions, the second about what the first found.

    ``welford(x, 0, 1)`` becomes a mean and a sum of squared differences from it, ``logsumexp(x, 1)`` a maximum and a
    sum of exponentials of differences: no division and no exponential is spent on merging partial results. Both are as
    accurate as the merged form or more so (Chan, Golub, LeVeque 1983). Numerics: reassociating.
    """
    names = {i.name: None for i in stage.loops}
    names.update((i.name, None) for t in postorder(*stage.bodies) if isinstance(t, Reduce) for i in t.iters)

    def one(term: Scalar) -> Scalar:
        if not isinstance(term, Reduce) or not all(extent(i) for i in term.iters):
            return term
        if term.monoid == "welford" and _literals(term.bodies[1:], (0.0, 1.0)):
            return _variance(term, names)
        if term.monoid == "logsumexp" and _literals(term.bodies[1:], (1.0,)):
            return _exponentials(term, names)
        return term

    return replace(stage, bodies=tuple(rebuild(b, one) for b in stage.bodies))


def _literals(terms: tuple[Scalar, ...], values: tuple[float, ...]) -> bool:
    return all(isinstance(t, Const) and t.value == v for t, v in zip(terms, values, strict=True))


def _again(term: Reduce, names: dict[str, None]) -> tuple[tuple[Iter, ...], Scalar]:
    """The iterators of a second pass and its body: under new names, since the first stands inside it."""
    renamed: dict[Iter, Iter] = {}
    for iterator in term.iters:
        name = fresh_name(f"{iterator.name}_again", names)
        names[name] = None
        renamed[iterator] = Iter(name, iterator.extent)
    body = rename_bound(Reduce("sum", term.iters, (term.bodies[0],)), renamed)
    assert isinstance(body, Reduce)
    return body.iters, body.bodies[0]


def _variance(term: Reduce, names: dict[str, None]) -> Scalar:
    dtype = term.bodies[0].dtype
    count = const(float(prod(extent(i) for i in term.iters)), dtype)
    if term.pick == 2:
        return count
    mean = Apply("div", (Reduce("sum", term.iters, (term.bodies[0],)), count))
    if term.pick == 0:
        return mean
    iters, body = _again(term, names)
    off = Apply("sub", (body, mean))
    return Reduce("sum", iters, (Apply("mul", (off, off)),))


def _exponentials(term: Reduce, names: dict[str, None]) -> Scalar:
    top = Reduce("max", term.iters, (term.bodies[0],))
    if term.pick == 0:
        return top
    iters, body = _again(term, names)
    one = const(1.0, body.dtype)
    share = Apply("where", (Apply("eq", (body, top)), one, Apply("exp", (Apply("sub", (body, top)),))))
    return Reduce("sum", iters, (share,))
