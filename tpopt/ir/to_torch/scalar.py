"""Scalar terms as torch calls: what each kind of term needs first, and what it does with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tpopt.ir.index import Index
from tpopt.ir.terms import Apply, Cast, Const, Guard, Position, Read, Reduce, Scalar, Select
from tpopt.ir.to_torch.contract import contract, factors_of, is_contraction
from tpopt.ir.to_torch.convolution import convolution
from tpopt.ir.to_torch.functions import FUNCTIONS, convert
from tpopt.ir.to_torch.indexing import index_value, mask
from tpopt.ir.to_torch.lowering import Lowering, Named, Recipe
from tpopt.ir.to_torch.reads import affine_axes, lower_read
from tpopt.ir.to_torch.reductions import empty, lower_reduce


def evaluate(low: Lowering, roots: Sequence[Scalar]) -> list[Named]:
    """Values of terms; shared sub-terms are computed once, and only those that are needed."""
    recipes: dict[Scalar, Recipe] = {}
    stack = list(reversed(roots))
    while stack:
        term = stack[-1]
        if term in low.memo:
            stack.pop()
            continue
        recipe = recipes.get(term)
        if recipe is None:
            recipe = recipes[term] = _recipe(low, term)
            waiting = [t for t in recipe.needs if t not in low.memo]
            if waiting:
                stack.extend(reversed(waiting))
                continue
        low.memo[term] = recipe.build([low.memo[t] for t in recipe.needs])
        stack.pop()
    return [low.memo[r] for r in roots]


def _recipe(low: Lowering, term: Scalar) -> Recipe:
    match term:
        case Const():
            return Recipe((), lambda _: low.literal(term.value, term.dtype))
        case Read():
            return Recipe((), lambda _: lower_read(low, term))
        case Position():
            return Recipe((), lambda _: index_value(low, term.value))
        case Cast():
            return _cast(low, term)
        case Apply():
            run = FUNCTIONS[term.function]
            return Recipe(term.args, lambda values: low.pointwise(run, *values))
        case Select():
            return _select(low, term)
        case Reduce():
            return _reduce(low, term)


def _cast(low: Lowering, term: Cast) -> Recipe:
    run = convert(low.setting.torch_dtype(term.dtype))
    if low.setting.torch_dtype(term.dtype) is low.setting.torch_dtype(term.value.dtype):
        return Recipe((term.value,), lambda values: values[0])
    return Recipe((term.value,), lambda values: low.pointwise(run, values[0]))


def _select(low: Lowering, term: Select) -> Recipe:
    if isinstance(term.inside, Read) and isinstance(term.outside, Const) and affine_axes(term.inside):
        windows, rest = _windows(low, term.guard, term.inside)
        read, fill = term.inside, term.outside
        if not rest.bounds:
            return Recipe((), lambda _: lower_read(low, read, fill.value, windows))
    return Recipe((term.inside, term.outside), lambda values: _where(low, term.guard, values))


def _where(low: Lowering, guard: Guard, values: list[Named]) -> Named:
    return low.pointwise(torch.where, mask(low, guard), *values)


def _windows(low: Lowering, guard: Guard, read: Read) -> tuple[dict[int, tuple[int, int]], Guard]:
    """The bounds of a guard that limit one axis of a read each, as limits of that axis; and the remaining ones."""
    shape = low.setting.shape(read.tensor)
    limits = {d: (0, n) for d, n in enumerate(shape)}
    rest = []
    for bound in guard.bounds:
        place = _limited_axis(bound.value, read)
        low_end, high_end = bound.low.constant, bound.high.constant
        if place is None or low_end is None or high_end is None:
            rest.append(bound)
            continue
        axis, shift = place
        first, last = limits[axis]
        limits[axis] = (max(first, low_end + shift), min(last, high_end + shift))
    return limits, Guard(tuple(rest))


def _limited_axis(value: Index, read: Read) -> tuple[int, int] | None:
    """The axis that is read at ``value`` plus a constant, and that constant."""
    for axis, where in enumerate(read.indices):
        shift = (where - value).constant
        if shift is not None:
            return axis, shift
    return None


def _reduce(low: Lowering, term: Reduce) -> Recipe:
    if 0 in low.extents(term.iters):
        return Recipe((), lambda _: empty(low, term))
    if low.setting.fast:
        found = convolution(low, term)
        if found is not None:
            return found
    if is_contraction(term):
        factors = tuple(factors_of(term.bodies[0]))
        return Recipe(factors, lambda values: contract(low, values, term.iters))
    return Recipe(term.bodies, lambda values: lower_reduce(low, term, values))
