"""Terms that are affine in one of their sub-terms: ``scale * pivot + shift``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.ir import Apply, Scalar
from tpopt.ir.walk import children, postorder
from tpopt.rewrite.rule import Refusal


@dataclass(frozen=True)
class Affine:
    """``scale * pivot + shift``; ``None`` is a scale of one or a shift of zero."""

    scale: Scalar | None = None
    shift: Scalar | None = None

    def of(self, inner: Affine) -> Affine:
        """The composition: this, applied to ``inner``."""
        shift = None if inner.shift is None else times(self.scale, inner.shift)
        return Affine(times(self.scale, inner.scale), plus(shift, self.shift))


def times(a: Scalar | None, b: Scalar | None) -> Scalar | None:
    """Product, where ``None`` is one."""
    return b if a is None else a if b is None else Apply("mul", (a, b))


def plus(a: Scalar | None, b: Scalar | None) -> Scalar | None:
    """Sum, where ``None`` is zero."""
    return b if a is None else a if b is None else Apply("add", (a, b))


def _negated(a: Scalar | None) -> Scalar | None:
    return None if a is None else Apply("neg", (a,))


def _minus_one(pivot: Scalar) -> Scalar:
    from tpopt.ir import const

    return const(-1, pivot.dtype)


def affine_in(root: Scalar, pivot: Scalar) -> Affine | Refusal:
    """Writes a term as an affine function of a sub-term, which must occur on one path only.

    Passes through ``add``, ``sub``, ``mul``, ``neg`` and ``div`` by what does not hold the pivot. A Refusal names the
    first function in the way.
    """
    forms: dict[Scalar, Affine] = {pivot: Affine()}
    for term in postorder(root):
        if term is pivot:
            continue
        holding = [c for c in children(term) if c in forms]
        if not holding:
            continue
        if len(holding) > 1:
            return Refusal("the product is read more than once")
        if not isinstance(term, Apply):
            return Refusal(f"a {type(term).__name__.lower()} stands between")
        form = _through(term, holding[0], forms[holding[0]], pivot)
        if form is None:
            return Refusal(f"{term.function} is not affine")
        forms[term] = form
    return forms.get(root, Refusal("the term does not read the product"))


def _through(term: Apply, operand: Scalar, form: Affine, pivot: Scalar) -> Affine | None:
    """The form of a function of one operand whose form is known; ``None`` when it is not affine."""
    others = tuple(a for a in term.args if a is not operand)
    first = term.args[0] is operand
    match term.function:
        case "neg":
            return Affine(_minus_one(pivot)).of(form)
        case "add":
            return Affine(None, _all("add", others)).of(form)
        case "mul":
            return Affine(_all("mul", others)).of(form)
        case "sub" if first:
            return Affine(None, _negated(others[0])).of(form)
        case "sub":
            return Affine(_minus_one(pivot), others[0]).of(form)
        case "div" if first:
            return _divided(form, others[0])
    return None


def _divided(form: Affine, divisor: Scalar) -> Affine:
    one = Apply("reciprocal", (divisor,))
    return Affine(one).of(form)


def _all(function: str, args: Sequence[Scalar]) -> Scalar:
    return args[0] if len(args) == 1 else Apply(function, tuple(args))
