"""The canonical form of a program: what is left when names, and orders without meaning, are taken away.

Inputs and weights keep their order. Stages follow in the order in which the outputs need them, so the order in which
independent stages were given has no influence; neither have the names of tensors, iterators and symbols, the order of
a reduction's iterators, or the order of commutative arguments and of a guard's bounds. Equal forms mean equal programs.
The reverse fails only for programs that hold several equal computations used in ways that one round of refinement
cannot tell apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b

from tpopt.ir.digest import MARK, Digests, digest, kernel_program
from tpopt.ir.index import Iter, Symbol, index, walk_atoms
from tpopt.ir.labels import final_iterators, label_program, sort_stage
from tpopt.ir.program import Program
from tpopt.ir.rename import Renaming, symbols_used
from tpopt.ir.stages import Compute, Cond, Kernel, Opaque, Scan, Scatter, Stage
from tpopt.ir.terms import Read, Tensor
from tpopt.ir.text import print_program
from tpopt.ir.walk import own_indices, postorder, stage_reads, tensors_of_indices


def canonical(program: Program) -> Program:
    """The canonical form of a valid program, without values of weights and origins."""
    sources = _symbols(t for t in (*program.inputs, *program.weights))
    arranged = _arranged(program, dict(zip(sources, range(len(sources)), strict=True)), 0)
    order = list(dict.fromkeys((*sources, *(s for stage in arranged.stages for s in symbols_used(stage)))))
    order += sorted((s for s in program.symbols if s not in order), key=lambda s: (s.low, repr(s.high)))
    names = {s: Symbol(f"s{n}", s.low, s.high) for n, s in enumerate(order)}
    return _named(replace(arranged, symbols=tuple(order)), names, 0)


def structural_hash(program: Program) -> str:
    """128 bits, in hex, that equal programs share whatever their names and the order of their stages."""
    return blake2b(print_program(canonical(program)).encode(), digest_size=16).hexdigest()


def structural_equal(a: Program, b: Program) -> bool:
    """Whether two programs have one canonical form."""
    return print_program(canonical(a)) == print_program(canonical(b))


def stage_key(stage: Stage) -> str:
    """The canonical text of one stage as a program of its own: what it computes from what, but for names.

    Two stages with one key compute the same function of tensors of the same types, layouts and structures.
    """
    reads = stage_reads(stage)
    symbols = symbols_used(stage)
    whole = Program("stage", reads, (), (stage,), stage.outs, symbols=symbols)
    labelled, _ = label_program(replace(whole, inputs=reads), {})
    stage = labelled.stages[0]
    kinds = {t: Digests(lambda t: t.name, {}).kind(t) for t in reads}
    roles = {t: digest(kinds[t], _role(stage, t, kinds, {})) for t in reads}
    ordered = _reads_in_order(sort_stage(stage, Digests(roles.__getitem__, {})), roles)
    return print_program(canonical(replace(whole, inputs=ordered)))


def _symbols(tensors: Iterable[Tensor]) -> tuple[Symbol, ...]:
    """Symbols in the shapes of tensors, in order of appearance."""
    atoms = (a for t in tensors for e in t.shape for a in walk_atoms(index(e)))
    return tuple(dict.fromkeys(a for a in atoms if isinstance(a, Symbol)))


def _arranged(program: Program, symbols: Mapping[Symbol, object], depth: int) -> Program:
    """The program with canonical iterators and in canonical order, under the names it came with."""
    labelled, keys = label_program(program, symbols, depth)
    if max(Counter(keys.values()).values(), default=0) > 1:
        keys = _refined(labelled, keys, symbols)
    digests = Digests(keys.__getitem__, symbols)
    stages = tuple(_arranged_stage(sort_stage(s, digests), symbols, depth) for s in labelled.stages)
    return labelled.with_stages(_ordered(labelled.with_stages(stages), keys))


def _arranged_stage(stage: Stage, symbols: Mapping[Symbol, object], depth: int) -> Stage:
    match stage:
        case Scan():
            return replace(stage, body=_arranged(stage.body, symbols, depth + 1))
        case Cond():
            then, otherwise = (_arranged(p, symbols, depth) for p in (stage.then, stage.otherwise))
            return replace(stage, then=then, otherwise=otherwise)
        case Kernel():
            return replace(stage, defines=_arranged(kernel_program(stage), symbols, depth).stages)
        case _:
            return stage


def _refined(program: Program, keys: Mapping[Tensor, str], symbols: Mapping[Symbol, object]) -> dict[Tensor, str]:
    """Tells tensors that are computed alike apart by how they are used."""
    uses: dict[Tensor, list[str]] = {t: [] for t in keys}
    for n, out in enumerate(program.outputs):
        uses[out].append(digest("output", n))
    for stage in reversed(program.stages):
        own = [sorted(uses[out]) for out in stage.outs]
        for tensor in stage_reads(stage):
            uses[tensor].append(digest(_role(stage, tensor, keys, symbols), own))
    return {t: digest(key, sorted(uses[t])) for t, key in keys.items()}


def _role(stage: Stage, tensor: Tensor, keys: Mapping[Tensor, str], symbols: Mapping[Symbol, object]) -> str:
    """Digest of a stage seen from one of the tensors it reads."""
    return Digests(lambda t: "self" if t is tensor else keys[t], symbols).stage(stage)


def _ordered(program: Program, keys: Mapping[Tensor, str]) -> tuple[Stage, ...]:
    """The stages in the order in which outputs, then effects, then whatever nobody reads, need them."""
    effects = [s for s in program.stages if isinstance(s, Opaque) and s.effectful]
    before: dict[Stage, Stage] = dict(zip(effects[1:], effects, strict=False))
    rest = sorted(program.stages, key=lambda s: [keys[o] for o in s.outs])
    wanted = [program.producers[o] for o in program.outputs if o in program.producers]
    done: dict[Stage, None] = {}
    pending = [(s, False) for s in reversed((*wanted, *effects, *rest))]
    while pending:
        stage, ready = pending.pop()
        if stage in done:
            continue
        if ready:
            done[stage] = None
            continue
        pending.append((stage, True))
        needs = [before[stage]] if stage in before else []
        needs += [program.producers[t] for t in _reads_in_order(stage, keys) if t in program.producers]
        pending.extend((s, False) for s in reversed(needs))
    return tuple(done)


def _reads_in_order(stage: Stage, keys: Mapping[Tensor, str]) -> tuple[Tensor, ...]:
    """What a stage reads, by first appearance; tensors looked up by one term in the order of their keys."""
    if not isinstance(stage, (Compute, Scatter)):
        return stage_reads(stage)
    found: dict[Tensor, None] = {stage.base: None} if isinstance(stage, Scatter) else {}
    for term in postorder(*(stage.bodies if isinstance(stage, Compute) else (stage.value,))):
        if isinstance(term, Read):
            found[term.tensor] = None
        looked_up = tensors_of_indices(own_indices(term))
        found.update(dict.fromkeys(sorted(looked_up, key=keys.__getitem__)))
    rest = [t for t in stage_reads(stage) if t not in found]
    return (*found, *sorted(rest, key=keys.__getitem__))


def _named(program: Program, symbols: Mapping[Symbol, Symbol], depth: int) -> Program:
    """The program under canonical names."""
    tensors = {t.name: f"x{n}" for n, t in enumerate(program.inputs)}
    tensors.update((t.name, f"w{n}") for n, t in enumerate(program.weights))
    outs = (o for stage in program.stages for o in stage.outs)
    tensors.update((t.name, f"t{n}") for n, t in enumerate(outs))
    base = Renaming(tensors=tensors, symbols=symbols)
    named = base.program(replace(program, stages=()))
    stages = tuple(_named_stage(s, base, depth) for s in program.stages)
    name = "p" if depth == 0 else "body"
    return replace(
        named, name=name, stages=stages, symbols=tuple(sorted(named.symbols, key=lambda s: (len(s.name), s.name)))
    )


def _named_stage(stage: Stage, base: Renaming, depth: int) -> Stage:
    match stage:
        case Compute() | Scatter():
            return replace(base, iterators=final_iterators(stage, base.size), _indices={}).stage(stage)
        case Scan():
            over = Iter(stage.over.name.removeprefix(MARK), base.size(stage.over.extent))
            steps = {s: Symbol(over.name, s.low, s.high) for s in stage.body.symbols if s.name == stage.over.name}
            body = _named(stage.body, {**base.symbols, **steps}, depth + 1)
            outs, init, xs = base.many(stage.outs), base.many(stage.init), base.many(stage.xs)
            return Scan(outs, init, xs, base.many(stage.captures), over, body)
        case Cond():
            then, otherwise = (_named(p, base.symbols, depth + 1) for p in (stage.then, stage.otherwise))
            outs, captures = base.many(stage.outs), base.many(stage.captures)
            return Cond(outs, base.tensor(stage.predicate), captures, then, otherwise)
        case Kernel():
            return _named_kernel(stage, base, depth)
        case _:
            return base.stage(stage)


def _named_kernel(stage: Kernel, base: Renaming, depth: int) -> Kernel:
    """Tensors private to the kernel are ``p0, p1, …``: they are none of the program's."""
    shared = {t.name: base.tensor(t).name for t in (*stage.reads, *stage.outs)}
    private = [o.name for s in stage.defines for o in s.outs if o.name not in shared]
    inside = Renaming(tensors={**shared, **{name: f"p{n}" for n, name in enumerate(private)}}, symbols=base.symbols)
    defines = tuple(_named_stage(s, inside, depth) for s in stage.defines)
    renamed = base.stage(replace(stage, defines=()))
    assert isinstance(renamed, Kernel)
    return replace(renamed, defines=defines)
