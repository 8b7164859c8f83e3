"""Sums of products as they are written: the one reduction of a kernel, and the two factors of its terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tpopt.backend.generated.access import Access
from tpopt.ir import Apply, Iter, Reduce, Scalar
from tpopt.ir.interpret.terms import shared
from tpopt.ir.walk import postorder
from tpopt.rewrite.contraction import factors_of
from tpopt.rewrite.stages import free_iters


def only_reduction(bodies: Iterable[Scalar]) -> Reduce | None:
    """The one reduction in some terms; ``None`` for several, one inside the other or side by side, and for none."""
    found = list(dict.fromkeys(shared(t) for t in postorder(*bodies) if isinstance(t, Reduce)))
    return found[0] if len(found) == 1 else None


def two_factors(total: Reduce, loops: Sequence[Iter], access: Access) -> tuple[Scalar, Scalar] | None:
    """The terms of a sum as two factors, if they are products.

    The right one has the loop along which results lie side by side.
    """
    last = next((i for i in loops if access.out_step(i) == 1), None)
    factors = factors_of(total.bodies[0])
    right = [f for f in factors if last is not None and last in free_iters(f)]
    left = [f for f in factors if f not in right]
    return (_product(left), _product(right)) if left and right else None


def _product(factors: Sequence[Scalar]) -> Scalar:
    made = factors[0]
    for factor in factors[1:]:
        made = Apply("mul", (made, factor))
    return made
