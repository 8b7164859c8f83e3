"""Traversal and rebuilding of terms and stages, iterative throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final, TypeAlias

from tpopt.ir.index import Atom, Index, IndexLike, Iter, Lookup, Symbol, map_atoms, walk_atoms
from tpopt.ir.stages import Attribute, Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Apply, Bound, Cast, Const, Guard, Position, Read, Reduce, Scalar, Select, Tensor

KEPT_TERMS: Final = 512
"""Sub-terms of which a term remembers the order: it is asked for again and again while a kernel is planned."""
_BELOW: Final = "_below"

Rebuild: TypeAlias = Callable[[Scalar], Scalar]


def children(term: Scalar) -> tuple[Scalar, ...]:
    """Direct scalar operands."""
    match term:
        case Apply():
            return term.args
        case Reduce():
            return term.bodies
        case Select():
            return (term.inside, term.outside)
        case Cast():
            return (term.value,)
        case _:
            return ()


def with_children(term: Scalar, new: tuple[Scalar, ...]) -> Scalar:
    """The same term over other operands."""
    match term:
        case Apply():
            return Apply(term.function, new)
        case Reduce():
            return Reduce(term.monoid, term.iters, new, term.pick)
        case Select():
            return Select(term.guard, new[0], new[1])
        case Cast():
            return Cast(term.dtype, new[0])
        case _:
            return term


def postorder(*roots: Scalar) -> list[Scalar]:
    """Every distinct sub-term once, operands before users."""
    if len(roots) != 1:
        return _ordered(roots)
    (root,) = roots
    below: tuple[Scalar, ...] | None = root.__dict__.get(_BELOW)
    if below is None:
        below = tuple(_ordered(children(root)))
        if len(below) <= KEPT_TERMS:
            root.__dict__[_BELOW] = below  # the root itself is not in it: a circle would keep both alive
    return [*below, root]


def _ordered(roots: tuple[Scalar, ...]) -> list[Scalar]:
    done: dict[Scalar, None] = {}
    stack: list[tuple[Scalar, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        term, ready = stack.pop()
        if term in done:
            continue
        if ready:
            done[term] = None
            continue
        stack.append((term, True))
        stack.extend((c, False) for c in reversed(children(term)))
    return list(done)


def rebuild(root: Scalar, change: Rebuild) -> Scalar:
    """Applies ``change`` bottom-up to every sub-term (its operands already changed)."""
    new: dict[Scalar, Scalar] = {}
    for term in postorder(root):
        operands = tuple(new[c] for c in children(term))
        new[term] = change(with_children(term, operands) if operands != children(term) else term)
    return new[root]


def guard_indices(guard: Guard) -> tuple[Index, ...]:
    """Bounds and values of a guard, flat."""
    return tuple(i for b in guard.bounds for i in (b.low, b.value, b.high))


def own_indices(term: Scalar) -> tuple[Index, ...]:
    """Indices that appear in the term itself, not in its operands."""
    match term:
        case Read():
            return term.indices
        case Select():
            return guard_indices(term.guard)
        case Position():
            return (term.value,)
        case _:
            return ()


def map_indices(root: Scalar, change: Callable[[Index], Index]) -> Scalar:
    """Applies ``change`` to every index of a term; guards are simplified again."""
    from tpopt.ir.build import guard, select

    def one(term: Scalar) -> Scalar:
        match term:
            case Read():
                return Read(term.tensor, tuple(change(i) for i in term.indices))
            case Position():
                return Position(change(term.value))
            case Select():
                new = guard(*((change(b.low), change(b.value), change(b.high)) for b in term.guard.bounds))
                return select(new, term.inside, term.outside)
            case _:
                return term

    return rebuild(root, one)


def substitute_iters(root: Scalar, mapping: Mapping[Atom, IndexLike]) -> Scalar:
    """Replaces free iterators (and symbols). The caller keeps bound iterators apart: see :func:`freshen`."""

    def one(i: Index) -> Index:
        return map_atoms(i, mapping.get) if any(a in mapping for a in i.nested_atoms) else i

    return map_indices(root, one) if mapping else root


def freshen(root: Scalar, taken: Iterable[str]) -> Scalar:
    """Renames iterators bound by reductions so that no name is in ``taken`` and none stands for two iterators."""
    avoid = dict.fromkeys(taken)
    order = postorder(root)
    read = (a.name for t in order for i in own_indices(t) for a in walk_atoms(i) if isinstance(a, (Iter, Symbol)))
    bound = list(dict.fromkeys(i for t in order if isinstance(t, Reduce) for i in t.iters))
    used = {**avoid, **dict.fromkeys(read), **dict.fromkeys(i.name for i in bound)}
    renamed: dict[Iter, Iter] = {}
    for iterator in bound:
        if iterator.name in avoid:
            renamed[iterator] = Iter(fresh_name(iterator.name, used), iterator.extent)
        new = renamed.get(iterator, iterator).name
        avoid[new] = used[new] = None
    return rename_bound(root, renamed) if renamed else root


def rename_bound(root: Scalar, renamed: Mapping[Iter, Iter]) -> Scalar:
    """Renames iterators where they are bound and where they are read."""

    def one(term: Scalar) -> Scalar:
        if isinstance(term, Reduce) and any(i in renamed for i in term.iters):
            return Reduce(term.monoid, tuple(renamed.get(i, i) for i in term.iters), term.bodies, term.pick)
        return term

    return rebuild(substitute_iters(root, dict(renamed.items())), one)


def fresh_name(base: str, used: Mapping[str, object]) -> str:
    """``base``, or ``base`` with the smallest number that makes it unused."""
    stem = base.rstrip("0123456789") or "i"
    number = 0
    name = base
    while name in used:
        name, number = f"{stem}{number}", number + 1
    return name


def map_tensors(root: Scalar, change: Callable[[Tensor], Tensor]) -> Scalar:
    """Replaces the tensors that a term reads, lookups included."""

    def atom(a: Atom) -> IndexLike | None:
        if isinstance(a, Lookup):
            inner = tuple(map_atoms(i, atom) for i in a.indices)
            return Lookup(change(a.tensor), inner, map_atoms(a.low, atom), map_atoms(a.high, atom))
        return None

    def one(term: Scalar) -> Scalar:
        return Read(change(term.tensor), term.indices) if isinstance(term, Read) else term

    return rebuild(map_indices(root, lambda i: map_atoms(i, atom)), one)


def tensors_of_indices(indices: Iterable[IndexLike]) -> dict[Tensor, None]:
    """Tensors looked up by indices, in order of appearance."""
    return {a.tensor: None for i in indices for a in walk_atoms(i) if isinstance(a, Lookup)}


def tensors_read(*roots: Scalar) -> tuple[Tensor, ...]:
    """Distinct tensors read by terms, in order of first appearance."""
    found: dict[Tensor, None] = {}
    for term in postorder(*roots):
        if isinstance(term, Read):
            found[term.tensor] = None
        found.update(tensors_of_indices(own_indices(term)))
    return tuple(found)


def attribute_tensors(value: Attribute) -> tuple[Tensor, ...]:
    """Tensors nested in an attribute."""
    found: list[Tensor] = []
    pending = [value]
    while pending:
        v = pending.pop()
        if isinstance(v, Tensor):
            found.append(v)
        elif isinstance(v, tuple):
            pending.extend(reversed(v))
    return tuple(found)


@lru_cache(maxsize=1 << 12)
def stage_reads(stage: Stage) -> tuple[Tensor, ...]:
    """Distinct tensors a stage reads, in order of first appearance."""
    match stage:
        case Compute():
            return tensors_read(*stage.bodies)
        case Scatter():
            guards = () if stage.guard is None else guard_indices(stage.guard)
            return tuple(
                dict.fromkeys((stage.base, *tensors_read(stage.value), *tensors_of_indices((*stage.at, *guards))))
            )
        case Scan():
            return tuple(dict.fromkeys((*stage.init, *stage.xs, *stage.captures)))
        case Cond():
            return tuple(dict.fromkeys((stage.predicate, *stage.captures)))
        case Sort() | TopK():
            return (stage.source,)
        case Kernel():
            return tuple(dict.fromkeys(stage.reads))
        case Opaque():
            return tuple(dict.fromkeys(attribute_tensors((*stage.args, *(v for _, v in stage.kwargs)))))


def _map_attribute(value: Attribute, change: Callable[[Tensor], Tensor]) -> Attribute:
    if isinstance(value, Tensor):
        return change(value)
    return tuple(_map_attribute(v, change) for v in value) if isinstance(value, tuple) else value


def map_stage_tensors(stage: Stage, change: Callable[[Tensor], Tensor]) -> Stage:
    """Renames the tensors of a stage, read and written; bodies of Scan and Cond keep their own names."""

    def many(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(change(t) for t in tensors)

    def in_index(i: Index) -> Index:
        return _index_tensors(i, change)

    match stage:
        case Compute():
            return Compute(many(stage.outs), stage.loops, tuple(map_tensors(b, change) for b in stage.bodies))
        case Scatter():
            guard = None if stage.guard is None else _guard_tensors(stage.guard, in_index)
            at, value = tuple(map(in_index, stage.at)), map_tensors(stage.value, change)
            return Scatter(change(stage.out), change(stage.base), stage.op, stage.loops, at, value, guard)
        case Scan():
            outs, init, xs = many(stage.outs), many(stage.init), many(stage.xs)
            return Scan(outs, init, xs, many(stage.captures), stage.over, stage.body)
        case Cond():
            outs, captures = many(stage.outs), many(stage.captures)
            return Cond(outs, change(stage.predicate), captures, stage.then, stage.otherwise)
        case Sort() | TopK():
            values, indices = change(stage.values), change(stage.indices)
            return replace(stage, values=values, indices=indices, source=change(stage.source))
        case Kernel():
            defines = tuple(map_stage_tensors(s, change) for s in stage.defines)
            return replace(stage, outs=many(stage.outs), reads=many(stage.reads), defines=defines)
        case Opaque():
            args = tuple(_map_attribute(a, change) for a in stage.args)
            kwargs = tuple((k, _map_attribute(v, change)) for k, v in stage.kwargs)
            return replace(stage, outs=many(stage.outs), args=args, kwargs=kwargs)


def _index_tensors(where: Index, change: Callable[[Tensor], Tensor]) -> Index:
    def atom(a: Atom) -> IndexLike | None:
        if isinstance(a, Lookup):
            inner = tuple(map_atoms(i, atom) for i in a.indices)
            return Lookup(change(a.tensor), inner, map_atoms(a.low, atom), map_atoms(a.high, atom))
        return None

    return map_atoms(where, atom)


def _guard_tensors(guard: Guard, change: Callable[[Index], Index]) -> Guard:
    return Guard(tuple(Bound(change(b.low), change(b.value), change(b.high)) for b in guard.bounds))


def is_literal(term: Scalar, value: object) -> bool:
    """Whether a term is the literal ``value`` (compared with ``==``)."""
    return isinstance(term, Const) and term.value == value
