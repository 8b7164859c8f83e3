"""Random small stages (odd indices, guards, divisions, lookups, several outputs) against point-by-point evaluation."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from ir.test_interpret_compute import cut_everything
from support.brute import brute

from tpopt.ir import (
    Compute,
    DType,
    Index,
    Iter,
    Lookup,
    Program,
    Read,
    Reduce,
    Scalar,
    Select,
    Tensor,
    apply,
    const,
    floordiv,
    guard,
    index,
    mod,
    position,
    reduce,
    select,
    tensor,
)
from tpopt.ir.index import evaluate
from tpopt.ir.interpret import interpret

TABLE = tensor("t", (4,), DType.I64)
MONOIDS = ("sum", "sum", "max", "min", "prod")


class Stages:
    """Draws terms over given iterators, and the tensors they read."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tensors: list[Tensor] = []

    def compute(self) -> Compute:
        loops = [Iter(f"i{n}", self.random.randint(1, 5)) for n in range(self.random.randint(0, 3))]
        bodies = [self.body(loops, n) for n in range(self.random.choice((1, 1, 2)))]
        outs = [tensor(f"y{n}", [i.extent for i in loops], DType.F64) for n in range(len(bodies))]
        return Compute(tuple(outs), tuple(loops), tuple(bodies))

    def body(self, loops: Sequence[Iter], number: int) -> Scalar:
        inner = [Iter(f"k{number}{n}", self.random.randint(1, 4)) for n in range(self.random.randint(0, 2))]
        term = self.term([*loops, *inner], 3)
        for it in inner[1:] if self.random.random() < 0.3 else []:
            term = reduce("sum", [it], term)
            inner.remove(it)
        whole = reduce(self.random.choice(MONOIDS), inner, term)
        return apply("add", whole, self.leaf(loops)) if self.random.random() < 0.4 else whole

    def term(self, iters: Sequence[Iter], depth: int) -> Scalar:
        kind = self.random.randint(0, 8) if depth else 0
        if kind <= 1:
            return self.leaf(iters)
        if kind <= 6:
            name = ("mul", "mul", "add", "sub", "max")[kind - 2]
            return apply(name, self.term(iters, depth - 1), self.term(iters, depth - 1))
        if kind == 7:
            return apply(self.random.choice(("neg", "tanh", "abs")), self.term(iters, depth - 1))
        outside = const(0.0, DType.F64) if self.random.random() < 0.6 else self.term(iters, depth - 1)
        where = self.index(iters)
        return select(
            guard((self.random.randint(-3, 1), where, self.random.randint(1, 6))), self.term(iters, depth - 1), outside
        )

    def leaf(self, iters: Sequence[Iter]) -> Scalar:
        if self.random.random() < 0.1:
            return position(self.index(iters), DType.F64)
        where = [self.index(iters) for _ in range(self.random.randint(1, 3))]
        return self.read(where, iters)

    def read(self, where: list[Index], iters: Sequence[Iter]) -> Scalar:
        """A read that is in bounds because the tensor is large enough, or because guards say so."""
        spans = [self.span(w, iters) for w in where]
        where = [w - low + self.random.randint(0, 1) for w, (low, _) in zip(where, spans, strict=True)]
        extents = [high - low + 2 for low, high in spans]
        bounds = []
        for n, w in enumerate(where):
            if self.random.random() < 0.4:
                shift, extents[n] = self.random.randint(0, 2), self.random.randint(1, extents[n])
                where[n] = w - shift
                bounds.append((0, where[n], extents[n]))
        if self.random.random() < 0.2 and not any(isinstance(a, Lookup) for a in where[-1].atoms):
            where[-1] = index(Lookup(TABLE, (mod(where[-1], 4),), index(0), index(3)))
            extents[-1] = 3
        x = tensor(f"x{len(self.tensors)}", extents, DType.F64)
        self.tensors.append(x)
        fill = const(self.random.choice((0.0, 0.0, 0.5)), DType.F64)
        return select(guard(*bounds), Read(x, tuple(where)), fill)

    def index(self, iters: Sequence[Iter]) -> Index:
        total = index(self.random.randint(-2, 2))
        for it in self.random.sample(list(iters), min(len(iters), self.random.randint(0, 2))):
            total = total + self.random.choice((-2, -1, 1, 1, 1, 2, 3)) * it
        kind = self.random.random()
        if kind < 0.15:
            return floordiv(total, self.random.randint(2, 3))
        if kind < 0.3:
            return mod(total, self.random.randint(2, 4))
        if kind < 0.4 and iters:
            return floordiv(total, 2) + self.random.choice((-1, 1)) * self.random.choice(list(iters))
        return total

    def span(self, where: Index, iters: Sequence[Iter]) -> tuple[int, int]:
        grid = np.ndindex(*(int(i.extent) for i in iters))
        values = [evaluate(where, {i.name: n for i, n in zip(iters, point, strict=True)}) for point in grid]
        return min(values), max(values)


def made(seed: int) -> tuple[Program, dict[str, np.ndarray]]:
    stages = Stages(seed)
    stage = stages.compute()
    rng = np.random.default_rng(seed)
    program = Program("p", (TABLE, *stages.tensors), (), (stage,), stage.outs).validate()
    arrays = {x.name: rng.standard_normal([int(e) for e in x.shape]) for x in stages.tensors}
    return program, arrays | {"t": rng.integers(0, 3, 4)}


@pytest.mark.parametrize("block", range(10))
def test_random_stages_are_what_their_points_are(block: int, monkeypatch: pytest.MonkeyPatch):
    if block % 2:
        cut_everything(monkeypatch)
    for seed in range(30 * block, 30 * (block + 1)):
        program, arrays = made(seed)
        (stage,) = program.stages
        assert isinstance(stage, Compute)
        for value, expected in zip(interpret(program, arrays), brute(stage, arrays), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10, err_msg=f"seed {seed}: {program}")


def test_the_random_stages_hold_what_they_should():
    terms = [t for seed in range(100) for s in made(seed)[0].stages for t in _terms(s)]
    lookups = [
        t for t in terms if isinstance(t, Read) and any(isinstance(a, Lookup) for i in t.indices for a in i.atoms)
    ]
    assert min(len(lookups), *(sum(isinstance(t, kind) for t in terms) for kind in (Read, Reduce, Select))) > 20


def _terms(stage: Compute) -> list[Scalar]:
    from tpopt.ir import postorder

    return postorder(*stage.bodies)
