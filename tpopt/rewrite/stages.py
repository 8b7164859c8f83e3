"""What several passes do to whole stages: change their terms, drop those nobody needs, see what is constant."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace

from tpopt.ir import (
    Compute,
    Cond,
    Guard,
    Index,
    Iter,
    Lookup,
    Opaque,
    Program,
    Read,
    Reduce,
    Scalar,
    Scan,
    Scatter,
    Stage,
    Symbol,
    Tensor,
)
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.walk import guard_indices, own_indices, postorder, stage_reads, substitute_iters


def map_bodies(stage: Stage, change: Callable[[Scalar], Scalar], nested: Callable[[Program], Program]) -> Stage:
    """A stage with its scalar terms changed, and the programs inside a Scan or Cond; the same object if none changed.

    Sort, TopK and Opaque have no terms, and a Kernel's are the record of what it computes: they stay.
    """
    match stage:
        case Compute():
            bodies = tuple(change(b) for b in stage.bodies)
            return stage if bodies == stage.bodies else Compute(stage.outs, stage.loops, bodies)
        case Scatter():
            value = change(stage.value)
            return stage if value is stage.value else replace(stage, value=value)
        case Scan():
            body = nested(stage.body)
            return stage if body is stage.body else replace(stage, body=body)
        case Cond():
            then, otherwise = nested(stage.then), nested(stage.otherwise)
            same = then is stage.then and otherwise is stage.otherwise
            return stage if same else replace(stage, then=then, otherwise=otherwise)
        case _:
            return stage


def map_nested(program: Program, change: Callable[[Program], Program]) -> Program:
    """A program with the bodies of its Scan and Cond stages changed; the same object if none was."""
    stages = tuple(map_bodies(s, lambda t: t, change) if isinstance(s, (Scan, Cond)) else s for s in program.stages)
    return program if stages == program.stages else program.with_stages(stages)


def term_indices(*roots: Scalar) -> tuple[Index, ...]:
    """Every index in terms, with the extents of the iterators that their reductions bind."""
    found: dict[Index, None] = {}
    for term in postorder(*roots):
        found.update(dict.fromkeys(own_indices(term)))
        if isinstance(term, Reduce):
            found.update(dict.fromkeys(i.extent for i in term.iters if isinstance(i.extent, Index)))
    return tuple(found)


def moved(term: Scalar, iterators: Iterable[Iter], to: Iterable[IndexLike]) -> Scalar:
    """A term with free iterators replaced, by position. Bound iterators must have other names: see ``freshen``."""
    places: dict[Atom, IndexLike] = dict(zip(iterators, to, strict=True))
    return substitute_iters(term, places)


def free_iters(term: Scalar) -> tuple[Iter, ...]:
    """Iterators that a term reads and does not bind, in order of appearance."""
    terms = postorder(term)
    bound = {i for t in terms if isinstance(t, Reduce) for i in t.iters}
    found = {a: None for t in terms for where in own_indices(t) for a in walk_atoms(where) if isinstance(a, Iter)}
    return tuple(i for i in found if i not in bound)


def symbols_of(stage: Compute | Scatter) -> tuple[Symbol, ...]:
    """Run-time integers in the extents, indices and guards of a stage, in order of appearance."""
    roots = stage.bodies if isinstance(stage, Compute) else (stage.value,)
    indices: list[Index] = [i.extent for i in stage.loops if isinstance(i.extent, Index)]
    indices += term_indices(*roots)
    if isinstance(stage, Scatter):
        indices += [*stage.at, *_guarded(stage.guard)]
    return tuple(dict.fromkeys(a for i in indices for a in walk_atoms(i) if isinstance(a, Symbol)))


def _guarded(guard: Guard | None) -> tuple[Index, ...]:
    return () if guard is None else guard_indices(guard)


def constant_tensors(program: Program) -> dict[Tensor, None]:
    """Weights, and what stages compute from weights alone (a stage that reads nothing counts); in program order.

    A weight that an alias overwrites after a run is no constant, nor is what an Opaque stage computes.
    """
    overwritten = {a.target for a in program.aliases}
    found: dict[Tensor, None] = {w: None for w in program.weights if w.name not in overwritten}
    for stage in program.stages:
        if not isinstance(stage, Opaque) and all(t in found for t in stage_reads(stage)):
            found.update(dict.fromkeys(stage.outs))
    return found


def needed_stages(program: Program, wanted: Iterable[Tensor] | None = None) -> tuple[Stage, ...]:
    """Stages that outputs depend on (``wanted`` instead, where given), effectful ones always; in program order."""
    live = set(program.outputs if wanted is None else wanted)
    kept: list[Stage] = []
    for stage in reversed(program.stages):
        if (isinstance(stage, Opaque) and stage.effectful) or any(o in live for o in stage.outs):
            kept.append(stage)
            live.update(stage_reads(stage))
    return tuple(reversed(kept))


def without_unread(stages: Sequence[Stage], spare: Container[Tensor], outputs: Iterable[Tensor]) -> tuple[Stage, ...]:
    """Drops stages whose outputs are all ``spare`` and read by no later stage nor listed in ``outputs``."""
    live = set(outputs)
    kept: list[Stage] = []
    for stage in reversed(stages):
        if stage.outs and all(o in spare and o not in live for o in stage.outs):
            continue
        kept.append(stage)
        live.update(stage_reads(stage))
    return tuple(reversed(kept))


def mentions_lookup(term: Scalar) -> bool:
    """Whether an index in a term is read from a tensor."""
    return any(isinstance(a, Lookup) for where in term_indices(term) for a in walk_atoms(where))


def reads_of(term: Scalar, tensor: Tensor) -> tuple[Read, ...]:
    """The distinct reads of one tensor in a term (lookups apart), in order of appearance."""
    return tuple(t for t in postorder(term) if isinstance(t, Read) and t.tensor is tensor)
