"""Floor division and modulo of indices, simplified on construction.

Laws used, for a positive denominator ``d`` (Python semantics, result of mod in ``[0, d)``):
``(d*q + r) // d = q + r // d``; ``0 <= r < d  ⇒  r // d = 0, r % d = r``; ``(x // a) // b = x // (a*b)``;
``(x % (a*b)) % b = x % b``; ``(g*x + c) // (g*d) = (x + c//g) // d``.
"""

from __future__ import annotations

from math import gcd

from tpopt.errors import InvalidProgram
from tpopt.ir.bounds import within
from tpopt.ir.index import Atom, FloorDiv, Index, IndexLike, Mod, Monomial, Symbol, add, index, multiply


def floordiv(numerator: IndexLike, denominator: IndexLike) -> Index:
    """``floor(numerator / denominator)``. Raises :class:`InvalidProgram` for a constant denominator of 0 or less."""
    n, d = index(numerator), _positive(denominator)
    whole, rest = _split(n, d)
    return add(whole, _floordiv_rest(rest, d))


def mod(numerator: IndexLike, denominator: IndexLike) -> Index:
    """``numerator - denominator * floor(numerator / denominator)``."""
    n, d = index(numerator), _positive(denominator)
    _, rest = _split(n, d)
    return _mod_rest(rest, d)


def ceildiv(numerator: IndexLike, denominator: IndexLike) -> Index:
    """``ceil(numerator / denominator)``."""
    return floordiv(add(numerator, denominator, -1), denominator)


def _positive(denominator: IndexLike) -> Index:
    d = index(denominator)
    known = d.constant
    if known is not None and known <= 0:
        raise InvalidProgram(f"division of an index by {known}: the denominator must be positive")
    return d


def _split(n: Index, d: Index) -> tuple[Index, Index]:
    """Writes ``n = d * whole + rest`` with as much as possible in ``whole``."""
    known = d.constant
    if known is not None:
        whole = tuple((c // known, atoms) for c, atoms in n.terms if c % known == 0 or not atoms)
        rest = tuple((c if atoms else c % known, atoms) for c, atoms in n.terms if not atoms or c % known)
        return Index(tuple(m for m in whole if m[0])), Index(tuple(m for m in rest if m[0]))
    whole_parts, rest_parts = index(0), index(0)
    for atoms, coefficient in _by_iterators(n).items():
        quotient, remainder = _polynomial_division(coefficient, d)
        outer = Index(((1, atoms),))
        whole_parts = add(whole_parts, multiply(quotient, outer))
        rest_parts = add(rest_parts, multiply(remainder, outer))
    return whole_parts, rest_parts


def _by_iterators(n: Index) -> dict[tuple[Atom, ...], Index]:
    """Groups monomials by their non-symbol atoms: the coefficients are polynomials in symbols."""
    groups: dict[tuple[Atom, ...], list[Monomial]] = {}
    for c, atoms in n.terms:
        outer = tuple(a for a in atoms if not isinstance(a, Symbol))
        groups.setdefault(outer, []).append((c, tuple(a for a in atoms if isinstance(a, Symbol))))
    return {outer: add(*(Index((m,)) for m in ms)) for outer, ms in groups.items()}


def _polynomial_division(n: Index, d: Index) -> tuple[Index, Index]:
    """Multivariate division by the leading monomial of ``d`` (highest degree, then canonical order)."""
    lead_c, lead_atoms = max(d.terms, key=lambda m: (len(m[1]), [a.text for a in m[1]]))
    quotient, rest, left = index(0), index(0), n
    while left.terms:
        c, atoms = max(left.terms, key=lambda m: (len(m[1]), [a.text for a in m[1]]))
        remaining = list(atoms)
        fits = c % lead_c == 0
        for a in lead_atoms:
            if a in remaining:
                remaining.remove(a)
            else:
                fits = False
        this = Index(((c, atoms),))
        if not fits:
            rest, left = add(rest, this), left - this
            continue
        step = Index(((c // lead_c, tuple(remaining)),))
        quotient, left = add(quotient, step), left - multiply(step, d)
    return quotient, rest


def _reduce_gcd(rest: Index, d: Index) -> tuple[Index, int, int]:
    """``rest = g*x + c`` with ``g`` dividing a constant ``d``: returns ``(x + c//g, g, c % g)``."""
    known = d.constant
    coefficients = [c for c, atoms in rest.terms if atoms]
    g = gcd(known or 0, *coefficients) if known and coefficients else 1
    if g <= 1:
        return rest, 1, 0
    c = rest.offset
    inner = add(Index(tuple((k // g, atoms) for k, atoms in rest.terms if atoms)), c // g)
    return inner, g, c % g


def _floordiv_rest(rest: Index, d: Index) -> Index:
    known, value = d.constant, rest.constant
    if known == 1:
        return rest
    if known is not None and value is not None:
        return index(value // known)
    if within(rest, 0, d):
        return index(0)
    reduced, g, _ = _reduce_gcd(rest, d)
    if g > 1 and known is not None:
        return floordiv(reduced, known // g)
    only = _single_atom(rest)
    if isinstance(only, FloorDiv) and known is not None and only.denominator.constant is not None:
        return floordiv(only.numerator, only.denominator.constant * known)
    if isinstance(only, Mod) and known is not None and only.denominator.constant is not None:
        whole = only.denominator.constant
        if whole % known == 0:  # (x % (a*d)) // d = (x // d) % a
            return mod(floordiv(only.numerator, known), whole // known)
    return index(FloorDiv(rest, d))


def _mod_rest(rest: Index, d: Index) -> Index:
    known, value = d.constant, rest.constant
    if known == 1:
        return index(0)
    if known is not None and value is not None:
        return index(value % known)
    if within(rest, 0, d):
        return rest
    reduced, g, c = _reduce_gcd(rest, d)
    if g > 1 and known is not None:
        return add(multiply(mod(reduced, known // g), g), c)
    dropped = _drop_inner_mods(rest, known)
    if dropped is not rest:
        return mod(dropped, d)
    return index(Mod(rest, d))


def _drop_inner_mods(rest: Index, known: int | None) -> Index:
    """``(x % m + y) % d`` is ``(x + y) % d`` when ``d`` divides ``m``."""
    if known is None:
        return rest
    for c, atoms in rest.terms:
        inner = atoms[0] if len(atoms) == 1 else None
        if (
            isinstance(inner, Mod)
            and inner.denominator.constant is not None
            and (c * inner.denominator.constant) % known == 0
        ):
            return add(rest - Index(((c, atoms),)), multiply(inner.numerator, c))
    return rest


def _single_atom(value: Index) -> Atom | None:
    if len(value.terms) == 1 and value.terms[0][0] == 1 and len(value.terms[0][1]) == 1:
        return value.terms[0][1][0]
    return None
