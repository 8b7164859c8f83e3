"""The same program under other names and in other orders that mean the same."""

from __future__ import annotations

import random
from dataclasses import replace

from tpopt.ir import Apply, Compute, Guard, Iter, Opaque, Program, Reduce, Scalar, Scatter, Select, Stage, Symbol
from tpopt.ir.functions import FUNCTIONS
from tpopt.ir.rename import Renaming
from tpopt.ir.walk import postorder, rebuild, stage_reads


def shuffled(program: Program, rng: random.Random) -> Program:
    """Renames everything; reorders independent stages, commutative arguments, guards and reduced iterators."""
    stages = _reordered(program, rng)
    names = [t.name for t in program.tensors.values()]
    fresh = [f"t{n}" for n in range(len(names))]
    rng.shuffle(fresh)
    symbols = {s: Symbol(f"z{rng.randrange(10**6)}_{n}", s.low, s.high) for n, s in enumerate(program.symbols)}
    base = Renaming(tensors=dict(zip(names, fresh, strict=True)), symbols=symbols)
    renamed = base.program(replace(program, stages=()))
    done = tuple(_renamed(_commuted(s, rng), base, rng) for s in stages)
    return replace(renamed, name="other", stages=done)


def _reordered(program: Program, rng: random.Random) -> list[Stage]:
    """A random topological order; effectful stages keep theirs."""
    left, known, order = list(program.stages), {*program.inputs, *program.weights}, list[Stage]()
    while left:
        effects = [s for s in left if isinstance(s, Opaque) and s.effectful]
        ready = [s for s in left if all(t in known for t in stage_reads(s)) and (s not in effects or s is effects[0])]
        chosen = rng.choice(ready)
        left.remove(chosen)
        known.update(chosen.outs)
        order.append(chosen)
    return order


def _commuted(stage: Stage, rng: random.Random) -> Stage:
    def one(term: Scalar) -> Scalar:
        if isinstance(term, Apply) and FUNCTIONS[term.function].commutative:
            return Apply(term.function, tuple(rng.sample(term.args, len(term.args))))
        if isinstance(term, Select):
            bounds = tuple(rng.sample(term.guard.bounds, len(term.guard.bounds)))
            return Select(Guard(bounds), term.inside, term.outside)
        if isinstance(term, Reduce):
            return Reduce(term.monoid, tuple(rng.sample(term.iters, len(term.iters))), term.bodies, term.pick)
        return term

    if isinstance(stage, Compute):
        return replace(stage, bodies=tuple(rebuild(b, one) for b in stage.bodies))
    return replace(stage, value=rebuild(stage.value, one)) if isinstance(stage, Scatter) else stage


def _renamed(stage: Stage, base: Renaming, rng: random.Random) -> Stage:
    if not isinstance(stage, (Compute, Scatter)):
        return base.stage(stage)
    bodies = stage.bodies if isinstance(stage, Compute) else (stage.value,)
    bound = [i for t in postorder(*bodies) if isinstance(t, Reduce) for i in t.iters]
    iterators = list(dict.fromkeys((*stage.loops, *bound)))
    letters = rng.sample([f"{c}{n}" for c in "abcxyz" for n in range(20)], len(iterators))
    names = {i: Iter(a, base.size(i.extent)) for i, a in zip(iterators, letters, strict=True)}
    return Renaming(tensors=base.tensors, iterators=names, symbols=base.symbols).stage(stage)
