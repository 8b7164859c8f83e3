"""Sums of products: what a sum reduces, as products of factors that can be contracted pairwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.ir.build import select
from tpopt.ir.index import Iter
from tpopt.ir.interpret.arithmetic import Arithmetic
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.terms import Apply, Bound, Cast, Const, Guard, Reduce, Scalar, Select, const
from tpopt.ir.walk import guard_indices, own_indices, postorder


@dataclass(frozen=True)
class Product:
    """``sign * sum[iters]{ product of factors }``; ``split`` tells that a guard became factors of zeros and ones."""

    negative: bool
    iters: tuple[Iter, ...]
    factors: tuple[Scalar, ...]
    split: bool = False


def products(term: Reduce, kept: Sequence[Iter], arithmetic: Arithmetic) -> tuple[Product, ...] | None:
    """The sum as products worth contracting, or ``None``: then it is evaluated as it stands."""
    if term.monoid != "sum" or not arithmetic.contracts(term.dtype):
        return None
    found: list[Product] = []
    pending: list[tuple[Scalar, bool, tuple[Iter, ...]]] = [(term.bodies[0], False, term.iters)]
    while pending:
        body, negative, iters = pending.pop()
        match body:
            case Apply(function="add"):
                pending += [(a, negative, iters) for a in reversed(body.args)]
            case Apply(function="sub"):
                pending += [(body.args[1], not negative, iters), (body.args[0], negative, iters)]
            case Apply(function="neg"):
                pending.append((body.args[0], not negative, iters))
            case Cast() if arithmetic.keeps(body.value.dtype, body.dtype):
                pending.append((body.value, negative, iters))
            case Reduce(monoid="sum") if not set(body.iters) & {*iters, *kept}:
                pending.append((body.bodies[0], negative, iters + body.iters))
            case _:
                found.append(_product(body, negative, iters, arithmetic))
    return tuple(found) if any(_worthwhile(p) for p in found) else None


def _worthwhile(product: Product) -> bool:
    return sum(not isinstance(f, Const) for f in product.factors) >= 2


def _product(term: Scalar, negative: bool, iters: tuple[Iter, ...], arithmetic: Arithmetic) -> Product:
    factors: list[Scalar] = []
    pending, split = [term], False
    while pending:
        factor = pending.pop()
        match factor:
            case Apply(function="mul"):
                pending += reversed(factor.args)
            case Apply(function="neg"):
                negative = not negative
                pending.append(factor.args[0])
            case Cast() if arithmetic.keeps(factor.value.dtype, factor.dtype):
                pending.append(factor.value)
            case Select() if (parts := _distributed(factor)) is not None:
                pending += reversed(parts)
                split = True
            case _:
                factors.append(factor)
    return Product(negative, iters, tuple(factors), split)


def _distributed(term: Select) -> list[Scalar] | None:
    """``select(g, a * b, 0)`` as guarded factors: each bound goes to the factors that depend on all its iterators.

    Bounds that fit no factor become a factor of zeros and ones. ``None`` where nothing would be gained: one read
    that depends on every iterator of its guard, or a guarded literal already.
    """
    if not (isinstance(term.outside, Const) and term.outside.value == 0):
        return None
    inside = term.inside
    factors = inside.args if isinstance(inside, Apply) and inside.function == "mul" else (inside,)
    needs = [_free(f) for f in factors]
    owners = {
        b: [n for n, need in enumerate(needs) if iters_of(guard_indices(Guard((b,)))).keys() <= need]
        for b in term.guard.bounds
    }
    rest = tuple(b for b, owned in owners.items() if not owned)
    if len(factors) == 1 and (not rest or isinstance(inside, Const)):
        return None
    parts = [_guarded(tuple(b for b, o in owners.items() if n in o), f, term.outside) for n, f in enumerate(factors)]
    return [*parts, _guarded(rest, const(1, term.dtype), term.outside)] if rest else parts


def _guarded(bounds: Sequence[Bound], factor: Scalar, outside: Const) -> Scalar:
    return select(Guard(tuple(bounds)), factor, outside) if not isinstance(factor, Const) or bounds else factor


def _free(term: Scalar) -> set[Iter]:
    """Iterators a factor depends on. Inner reductions' own iterators may be among them: they never occur in a guard."""
    return {i for t in postorder(term) for i in iters_of(own_indices(t))}
