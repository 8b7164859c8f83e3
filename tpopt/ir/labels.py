"""Canonical names for iterators, and canonical order for what commutes.

A reduction's iterators are named by its height (how many reductions are nested in it) and ordered by how the body
reads them, so that neither their names nor their order in the text matter. Ties are broken by fixing one iterator at a
time; what is still tied then is symmetric, except in bodies as regular as the graphs that defeat colour refinement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tpopt.ir.digest import MARK, Digests, kernel_program, keyed_stages
from tpopt.ir.functions import FUNCTIONS
from tpopt.ir.index import Iter, Size, Symbol
from tpopt.ir.program import Program
from tpopt.ir.rename import Renaming
from tpopt.ir.stages import Compute, Cond, Kernel, Scan, Scatter, Stage
from tpopt.ir.terms import Apply, Guard, Reduce, Scalar, Select, Tensor
from tpopt.ir.walk import children, postorder, rebuild, with_children


def label_stage(stage: Stage, digests: Digests, depth: int = 0) -> Stage:
    """The stage with canonical iterators; ``depth`` counts the scans around it."""
    match stage:
        case Compute():
            loops = _loops(stage.loops)
            bodies = tuple(_label_term(b, loops, digests) for b in stage.bodies)
            return Renaming(iterators=loops).stage(replace(stage, bodies=bodies))
        case Scatter():
            loops = _loops(stage.loops)
            return Renaming(iterators=loops).stage(replace(stage, value=_label_term(stage.value, loops, digests)))
        case Scan():
            over = Iter(f"{MARK}n{depth}", stage.over.extent)
            steps = {s: Symbol(over.name, s.low, s.high) for s in stage.body.symbols if s.name == stage.over.name}
            body = Renaming(symbols=steps).program(stage.body)
            return replace(stage, over=over, body=label_program(body, digests.symbols, depth + 1)[0])
        case Cond():
            then, otherwise = (label_program(p, digests.symbols, depth)[0] for p in (stage.then, stage.otherwise))
            return replace(stage, then=then, otherwise=otherwise)
        case Kernel():
            return replace(stage, defines=label_program(kernel_program(stage), digests.symbols, depth)[0].stages)
        case _:
            return stage


def label_program(
    program: Program, symbols: Mapping[Symbol, object], depth: int = 0
) -> tuple[Program, dict[Tensor, str]]:
    """The program with canonical iterators, and a digest for each of its tensors."""
    stages, keys = keyed_stages(program, symbols, lambda stage, digests: label_stage(stage, digests, depth))
    return program.with_stages(stages), keys


def sort_stage(stage: Stage, digests: Digests) -> Stage:
    """The stage with commutative arguments and guards in the order of their digests."""
    match stage:
        case Compute():
            return Compute(stage.outs, stage.loops, tuple(sort_term(b, digests) for b in stage.bodies))
        case Scatter():
            guard = None if stage.guard is None else _sort_guard(stage.guard, digests)
            return replace(stage, value=sort_term(stage.value, digests), guard=guard)
        case _:
            return stage


def sort_term(root: Scalar, digests: Digests) -> Scalar:
    """The term with commutative arguments and guards in the order of their digests."""
    digests.term(root)
    new: dict[Scalar, Scalar] = {}
    for term in postorder(root):
        operands = children(term)
        if isinstance(term, Apply) and FUNCTIONS[term.function].commutative:
            operands = tuple(sorted(operands, key=digests.term))  # the given operands: their digests are known
        changed = with_children(term, tuple(new[o] for o in operands))
        if isinstance(changed, Select):
            changed = Select(_sort_guard(changed.guard, digests), changed.inside, changed.outside)
        new[term] = changed
    return new[root]


def final_iterators(stage: Compute | Scatter, size: Callable[[Size], Size]) -> dict[Iter, Iter]:
    """Plain names for canonical iterators: loops ``i0, i1, …``, then reductions ``k0, k1, …`` by first appearance.

    ``size`` renames the symbols in extents.
    """
    names = {i: Iter(f"i{n}", size(i.extent)) for n, i in enumerate(stage.loops)}
    count = 0
    pending = list(reversed(stage.bodies if isinstance(stage, Compute) else (stage.value,)))
    seen: dict[Scalar, None] = {}
    while pending:
        term = pending.pop()
        if term in seen:
            continue
        seen[term] = None
        for iterator in term.iters if isinstance(term, Reduce) else ():
            if iterator not in names:
                names[iterator] = Iter(f"k{count}", size(iterator.extent))
                count += 1
        pending.extend(reversed(children(term)))
    return names


def _loops(loops: tuple[Iter, ...]) -> dict[Iter, Iter]:
    return {i: Iter(f"{MARK}i{n}", i.extent) for n, i in enumerate(loops)}


def _sort_guard(guard: Guard, digests: Digests) -> Guard:
    return Guard(tuple(sorted(guard.bounds, key=digests.bound)))


def _label_term(root: Scalar, loops: Mapping[Iter, Iter], digests: Digests) -> Scalar:
    heights: dict[Scalar, int] = {}

    def one(term: Scalar) -> Scalar:
        height = max((heights[c] for c in children(term)), default=0)
        if isinstance(term, Reduce):
            height += 1
            term = _label_reduce(term, height, loops, digests)
        heights[term] = height
        return term

    return rebuild(root, one)


def _label_reduce(term: Reduce, height: int, loops: Mapping[Iter, Iter], digests: Digests) -> Reduce:
    ordered = _ordered(term, loops, digests)
    labels = {i: Iter(f"{MARK}{height}.{n}", i.extent) for n, i in enumerate(ordered)}
    renaming = Renaming(iterators=labels)
    return Reduce(term.monoid, tuple(labels.values()), tuple(map(renaming.term, term.bodies)), term.pick)


def _ordered(term: Reduce, loops: Mapping[Iter, Iter], digests: Digests) -> list[Iter]:
    """The reduction's iterators in an order that follows from how its bodies read them."""
    peers, chosen = list(term.iters), list[Iter]()
    while len(peers) > 1:
        keys = {one: _role(term, one, peers, chosen, loops, digests) for one in peers}
        peers.sort(key=keys.__getitem__)
        if len(set(keys.values())) == len(peers):
            break
        chosen.append(peers.pop(0))
    return chosen + peers


def _role(
    term: Reduce, one: Iter, peers: list[Iter], chosen: list[Iter], loops: Mapping[Iter, Iter], digests: Digests
) -> str:
    """Digest of the bodies seen from one iterator: its peers, and the iterators bound further out, look alike."""
    reading: dict[Iter, object] = {i: label.name for i, label in loops.items()}
    reading.update(dict.fromkeys(peers, "peer"))
    reading.update((c, ("chosen", n)) for n, c in enumerate(chosen))
    reading[one] = "self"

    def name(iterator: Iter) -> object:
        return reading.get(iterator) or (iterator.name if iterator.name.startswith(MARK) else "outer")

    view = Digests(digests.tensor, digests.symbols, name)
    return view.index(one.extent) + " ".join(map(view.term, term.bodies))
