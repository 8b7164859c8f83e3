"""Scalar terms as text.

Terms are graphs: what is shared and long, or nested deeply, is printed once under a name (``let $0: f32 = … in``), so
that text stays proportional to the graph and shallow enough for a recursive reader. A literal shows its type
(``1.5:f16``) only where neither the declared result nor a neighbouring operand implies it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpopt.ir.dtypes import DType
from tpopt.ir.functions import MONOIDS, function
from tpopt.ir.index import Index, Iter, Symbol, walk_atoms
from tpopt.ir.names import quoted
from tpopt.ir.terms import Apply, Cast, Const, Guard, Number, Position, Read, Reduce, Scalar, Select
from tpopt.ir.walk import children, own_indices, postorder

LONG = 48
"""A shared sub-term that prints to more characters than this gets a name."""
DEEP = 20
"""A sub-term nested deeper than this gets a name; well below what :mod:`tpopt.ir.parse_term` can read."""

INFIX = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
}
COMPARISON, SUM, PRODUCT, UNARY = 0, 1, 2, 3
LEVEL = {"add": SUM, "sub": SUM, "mul": PRODUCT, "div": PRODUCT, "neg": UNARY}


def print_term(term: Scalar) -> str:
    """One term; its named parts, if any, on lines of their own before it."""
    texts = Texts((term,), (), typed=False)
    return "\n".join((*texts.lets, *texts.bodies))


def print_guard(guard: Guard) -> str:
    """``low <= value < high & …``; ``true`` when empty."""
    return " & ".join(f"{b.low} <= {b.value} < {b.high}" for b in guard.bounds) or "true"


def print_iters(iters: Iterable[Iter]) -> str:
    """``[i:7,j:s0]``."""
    return f"[{','.join(f'{i.text}:{i.extent}' for i in iters)}]"


def print_number(value: Number) -> str:
    """A literal without its type: ``true``, ``3``, ``-0.0``, ``inf``, ``(1.0-2.0j)``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float):
        return repr(float(value))
    imaginary = repr(value.imag)
    return f"({value.real!r}{'' if imaginary.startswith('-') else '+'}{imaginary}j)"


class Texts:
    """Text of terms that share their named parts: ``bodies`` in the given order, ``lets`` to be printed before them.

    ``typed`` says that the reader knows the type of each body (from a declaration).
    """

    def __init__(self, roots: tuple[Scalar, ...], loops: tuple[Iter, ...], *, typed: bool) -> None:
        order = postorder(*roots)
        self._facts = _Facts(order, roots)
        self._names: dict[Scalar, str] = {}
        self.lets: list[str] = []
        free = _free_iterators(order, loops) if self._facts.named else {}
        for term in order:
            if term in self._facts.named:
                body = self._text(term, COMPARISON, typed=True)
                name = f"${len(self._names)}"
                self.lets.append(f"let {name}{print_iters(free[term]) if free[term] else ''}: {term.dtype} = {body} in")
                self._names[term] = name
        self.bodies = [self._text(r, COMPARISON, typed=typed) for r in roots]

    def _text(self, term: Scalar, level: int, *, typed: bool) -> str:
        if term in self._names:
            return self._names[term]
        match term:
            case Const():
                return _literal(term, typed=typed)
            case Read():
                return f"{quoted(term.tensor.name)}[{','.join(map(str, term.indices))}]"
            case Position():
                return _position(term.value)
            case Cast():
                return f"{term.dtype}({self._text(term.value, COMPARISON, typed=self._evident(term.value))})"
            case Select():
                known = typed or self._evident(term)
                inside, outside = (self._text(t, COMPARISON, typed=known) for t in (term.inside, term.outside))
                return f"select({print_guard(term.guard)}, {inside}, {outside})"
            case Reduce():
                return self._reduce(term, typed=typed)
            case Apply():
                return self._apply(term, level, typed=typed)

    def _evident(self, term: Scalar) -> bool:
        return term in self._facts.evident

    def _reduce(self, term: Reduce, *, typed: bool) -> str:
        wide = MONOIDS[term.monoid].width > 1
        known = [self._evident(b) or (typed and n == term.pick) for n, b in enumerate(term.bodies)]
        bodies = ", ".join(self._text(b, COMPARISON, typed=k) for b, k in zip(term.bodies, known, strict=True))
        return f"{term.monoid}{print_iters(term.iters)}{f'.{term.pick}' if wide else ''}{{ {bodies} }}"

    def _apply(self, term: Apply, level: int, *, typed: bool) -> str:
        name, args = term.function, term.args
        flags = self._argument_types(term, typed=typed)
        if name == "neg":
            operand = self._text(args[0], UNARY, typed=flags[0])
            return f"-({operand})" if isinstance(args[0], Const) else f"-{operand}"
        if name not in INFIX:
            return f"{name}({', '.join(self._text(a, COMPARISON, typed=f) for a, f in zip(args, flags, strict=True))})"
        own = LEVEL.get(name, COMPARISON)
        first = args[0]
        chained = (
            isinstance(first, Apply) and first.function == name and name in ("add", "mul") and first not in self._names
        )
        first_level = own + 1 if chained or own == COMPARISON else own
        levels = (first_level, *(own + 1 for _ in args[1:]))
        parts = [self._text(a, lv, typed=f) for a, lv, f in zip(args, levels, flags, strict=True)]
        joined = f" {INFIX[name]} ".join(parts)
        return f"({joined})" if level > own else joined

    def _argument_types(self, term: Apply, *, typed: bool) -> list[bool]:
        """For each argument, whether the reader knows its type: from the result, or from an argument beside it."""
        spec = function(term.function)
        alike = term.args[1:] if term.function == "where" else term.args
        known = any(map(self._evident, alike)) or (typed and spec.result in ("same", "complex"))
        return [True] * (len(term.args) - len(alike)) + [known] * len(alike)


@dataclass(init=False)
class _Facts:
    """What printing needs to know of every sub-term: whether its reads tell its type, and whether it gets a name."""

    evident: dict[Scalar, None]
    named: dict[Scalar, None]

    def __init__(self, order: list[Scalar], roots: tuple[Scalar, ...]) -> None:
        uses: dict[Scalar, int] = {}
        for term in (*roots, *(c for t in order for c in children(t))):
            uses[term] = uses.get(term, 0) + 1
        self.evident, self.named = {}, {}
        length: dict[Scalar, int] = {}
        depth: dict[Scalar, int] = {}
        for term in order:
            operands = children(term)
            if _is_evident(term, self.evident):
                self.evident[term] = None
            own = 6 + sum(len(str(i)) for i in own_indices(term))
            length[term] = own + sum(3 if c in self.named else length[c] for c in operands)
            depth[term] = 1 + max((0 if c in self.named else depth[c] for c in operands), default=0)
            shared = uses[term] > 1 and length[term] > LONG
            if operands and (shared or depth[term] > DEEP):
                self.named[term] = None
                self.evident[term] = None


def _is_evident(term: Scalar, evident: dict[Scalar, None]) -> bool:
    match term:
        case Const():
            return False
        case Read() | Cast() | Position():
            return True
        case Reduce():
            return term.bodies[term.pick] in evident
        case Select():
            return term.inside in evident or term.outside in evident
        case Apply():
            alike = term.args[1:] if term.function == "where" else term.args
            return function(term.function).result == "bool" or any(a in evident for a in alike)


def _free_iterators(order: list[Scalar], loops: tuple[Iter, ...]) -> dict[Scalar, tuple[Iter, ...]]:
    """Iterators that each term reads without binding them, ``loops`` left out, sorted by name."""
    free: dict[Scalar, tuple[Iter, ...]] = {}
    for term in order:
        found = {a: None for i in own_indices(term) for a in walk_atoms(i) if isinstance(a, Iter) and a not in loops}
        for child in children(term):
            found.update(dict.fromkeys(free[child]))
        bound = term.iters if isinstance(term, Reduce) else ()
        free[term] = tuple(sorted((i for i in found if i not in bound), key=repr))
    return free


def _literal(term: Const, *, typed: bool) -> str:
    value = term.value
    if isinstance(value, complex) and repr(value.imag) == "0.0":
        value = value.real
    return print_number(value) if typed or term.dtype is DType.BOOL else f"{print_number(value)}:{term.dtype}"


def _position(value: Index) -> str:
    """A lone iterator or symbol by its name, anything else as ``@(index)``."""
    lone = len(value.terms) == 1 and value.terms[0][0] == 1 and len(value.terms[0][1]) == 1
    return str(value) if lone and isinstance(value.terms[0][1][0], (Iter, Symbol)) else f"@({value})"
