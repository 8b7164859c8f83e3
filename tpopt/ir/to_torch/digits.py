"""Iterators that are only divided by constants, split into digits: divisions that regroup axes disappear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tpopt.ir.index import Atom, FloorDiv, Index, Iter, Mod, add, index, multiply, walk_atoms
from tpopt.ir.terms import Reduce, Scalar
from tpopt.ir.to_torch.setting import Specialised, replace_atoms
from tpopt.ir.walk import own_indices, postorder, rebuild


def split_iterators(found: Specialised) -> Specialised:
    """The same terms over digits; the loops of ``found`` are then groups of neighbouring loops of the result."""
    indices = [i for t in postorder(*found.values) for i in own_indices(t)]
    parts = _parts(indices)
    if not parts:
        return found
    mapping: dict[Atom, Index] = {it: _joined(digits) for it, digits in parts.items()}
    loops = tuple(d for it in found.loops for d, _ in parts.get(it, ((it, 1),)))
    values = tuple(_rebind(replace_atoms(v, mapping), parts) for v in found.values)
    return Specialised(loops, values)


Digits = tuple[tuple[Iter, int], ...]


def _joined(digits: Digits) -> Index:
    return add(*(multiply(d, step) for d, step in digits)) if digits else index(0)


def _rebind(root: Scalar, parts: Mapping[Iter, Digits]) -> Scalar:
    def one(term: Scalar) -> Scalar:
        if isinstance(term, Reduce) and any(i in parts for i in term.iters):
            new = tuple(d for i in term.iters for d, _ in parts.get(i, ((i, 1),)))
            return Reduce(term.monoid, new, term.bodies, term.pick)
        return term

    return rebuild(root, one)


def _parts(indices: Sequence[Index]) -> dict[Iter, Digits]:
    """Digits and their place values, most significant first, for each iterator that every division divides alone."""
    cuts: dict[Iter, dict[int, None]] = {}
    mixed: dict[Iter, None] = {}
    for where in indices:
        for atom in walk_atoms(where):
            if isinstance(atom, (FloorDiv, Mod)) and not _collect(atom, cuts):
                mixed.update({a: None for a in walk_atoms(atom.numerator) if isinstance(a, Iter)})
    parts: dict[Iter, Digits] = {}
    for it, found in cuts.items():
        steps = [1, *sorted(found), it.extent]
        known = [s for s in steps if isinstance(s, int)]
        if it in mixed or len(known) < len(steps) or any(b % a for a, b in pairwise(known)):
            continue
        digits = [(Iter(f"{it.name}/{a}", b // a), a) for a, b in pairwise(known) if b > a]
        parts[it] = tuple(reversed(digits))
    return parts


def _collect(atom: FloorDiv | Mod, cuts: dict[Iter, dict[int, None]]) -> bool:
    """Records where ``atom`` cuts its iterator; False when it divides anything but one iterator by constants."""
    divisor = atom.denominator.constant
    if divisor is None:
        return False
    scale, inner = 1, _only(atom.numerator)
    while isinstance(inner, FloorDiv) and inner.denominator.constant is not None:
        scale *= inner.denominator.constant
        inner = _only(inner.numerator)
    if not isinstance(inner, Iter):
        return False
    found = cuts.setdefault(inner, {})
    found[scale * divisor] = None
    if scale > 1:
        found[scale] = None
    return True


def _only(where: Index) -> Atom | None:
    terms = where.terms
    return terms[0][1][0] if len(terms) == 1 and terms[0][0] == 1 and len(terms[0][1]) == 1 else None
