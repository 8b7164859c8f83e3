"""Regions: parts of a program that are one sum of products, whatever operators they came from.

A stage whose body is a polynomial of reads goes into its only reader; what no reader can take is the root of a region.
A function around a sum (an activation, a bias under one) stays outside: the region is the sum inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod

from tpopt.ir import (
    Apply,
    Cast,
    Compute,
    Const,
    Index,
    Iter,
    Kernel,
    Program,
    Read,
    Reduce,
    Scalar,
    Select,
    Stage,
    Tensor,
    postorder,
)
from tpopt.ir.index import Atom, IndexLike
from tpopt.ir.program import Array
from tpopt.ir.walk import children, is_literal, own_indices, stage_reads, substitute_iters
from tpopt.passes.derive.products import Expander, Names, Polynomial, Product, renewed
from tpopt.passes.inline_views import is_index_map
from tpopt.rewrite.stages import constant_tensors

MOST_STAGES = 48
"""Stages of one region."""
MOST_READERS = 4
"""Stages that may each take in what they all read."""
MOST_SHARED = 4
"""Products of what several stages take in: each of them multiplies its work by that, and a residual stream grows."""


@dataclass(frozen=True)
class Region:
    """``root`` with its sum ``pivot`` written as a polynomial of what ``members`` (in order, the root last) read."""

    root: Compute
    pivot: Scalar
    polynomial: Polynomial
    members: tuple[Compute, ...]
    constants: frozenset[Tensor]
    values: Mapping[str, Array] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The tensor that the region computes."""
        return self.root.outs[0].name

    @property
    def loops(self) -> tuple[Iter, ...]:
        """The loops of the root."""
        return self.root.loops


@dataclass(frozen=True)
class _Known:
    """What a tensor is made of, and the stages that make it.

    Without a polynomial it is made of pieces side by side, or a view of them: whether they are worth taking apart is
    seen where they are read.
    """

    loops: tuple[Iter, ...]
    polynomial: Polynomial | None
    members: tuple[Compute, ...]


class Reach(IntEnum):
    """Which stages go into their readers."""

    PRODUCTS = 0
    """Products that one stage reads."""
    SUMS = 1
    """Also sums of several products."""
    ALL = 2
    """Also what several stages read: each of them may find that it needs only a part of it."""


def regions(program: Program, reach: Reach = Reach.SUMS, always: frozenset[Tensor] = frozenset()) -> Iterator[Region]:
    """Every region in program order; ``always`` are tensors that go into their readers, a few, whatever the reach."""
    return _Finder(program, reach, always).run()


class _Finder:
    def __init__(self, program: Program, reach: Reach, always: frozenset[Tensor]) -> None:
        self.program, self.reach, self.always = program, reach, always
        self.constants = frozenset(constant_tensors(program))
        self.values = {w.name: program.constants[w.name] for w in program.weights if w.name in program.constants}
        self.names = Names()
        self.known: dict[Tensor, _Known] = {}
        self.used: dict[Tensor, None] = {}

    def run(self) -> Iterator[Region]:
        found: list[Region] = []
        for stage in self.program.stages:
            region = self._visit(stage)
            if region is not None:
                found.append(region)
        # what looked as if its reader could take it, and then could not, is a root after all
        found.extend(
            Region(k.members[-1], k.members[-1].bodies[0], k.polynomial, k.members, self.constants, self.values)
            for tensor, k in self.known.items()
            if k.polynomial is not None and tensor not in self.used and tensor not in self.constants
        )
        place = {s: n for n, s in enumerate(self.program.stages)}
        return iter(sorted(found, key=lambda r: place[r.root]))

    def _visit(self, stage: Stage) -> Region | None:
        """Remembers a stage that its reader can take; else the region that ends there, if there is one."""
        if not isinstance(stage, Compute) or len(stage.outs) != 1:
            return None
        if stage.outs[0] in self.constants and not _grows(stage):
            return None
        if not (stage.outs[0].dtype.is_float or stage.outs[0].dtype.is_complex):
            return None
        if self._joins(stage.bodies[0]):
            count = sum(isinstance(t, Select) for t in postorder(stage.bodies[0])) + 1
            if self._goes_on(stage, count):
                self.known[stage.outs[0]] = _Known(stage.loops, None, (stage,))
            return None
        taken: dict[Tensor, None] = {}
        pivot, polynomial = self._pivot(stage, taken)
        if pivot is None or polynomial is None:
            return None
        members = (*dict.fromkeys(s for t in taken for s in self.known[t].members), stage)
        if len(members) > MOST_STAGES:
            return None
        self.used.update(taken)
        if pivot is stage.bodies[0] and self._goes_on(stage, len(polynomial)):
            self.known[stage.outs[0]] = _Known(stage.loops, polynomial, members)
            return None
        return Region(stage, pivot, polynomial, members, self.constants, self.values)

    def _pivot(self, stage: Compute, taken: dict[Tensor, None]) -> tuple[Scalar | None, Polynomial | None]:
        """The body's largest sum of products, and its expansion."""
        body, loops = stage.bodies[0], frozenset(stage.loops)
        for plain in (False, True):
            taken.clear()
            known = (lambda _: None) if plain else (lambda r: self._expansion(r, taken, loops))
            expander = Expander(self.names, known, loops)
            polynomial = expander.expand(body)
            if polynomial is not None:
                return body, polynomial
            tops = _tops(body, expander)
            inside = {t for top in tops for t in postorder(top)}
            outside = [t.tensor for t in postorder(body) if isinstance(t, Read) and t not in inside]
            if len(tops) == 1 and not any(t in self.known and t in taken for t in outside):
                polynomial = expander.expand(tops[0])
                assert polynomial is not None
                read = {t.tensor for t in inside if isinstance(t, Read)}
                for tensor in [t for t in taken if t not in read]:
                    del taken[tensor]
                return tops[0], polynomial
        return None, None

    def _expansion(self, read: Read, taken: dict[Tensor, None], loops: frozenset[Iter]) -> Polynomial | None:
        known = self.known.get(read.tensor)
        if known is None:
            return None
        mapping: dict[Atom, IndexLike] = dict(zip(known.loops, read.indices, strict=True))
        if known.polynomial is not None:
            taken[read.tensor] = None
            return tuple(renewed(p, self.names).moved(mapping) for p in known.polynomial)
        inside: dict[Tensor, None] = {}
        expander = Expander(self.names, lambda r: self._expansion(r, inside, loops), loops)
        found = expander.expand(substitute_iters(known.members[-1].bodies[0], mapping))
        if found is not None:
            taken.update(inside)
            taken[read.tensor] = None
        return found

    def _joins(self, body: Scalar) -> bool:
        """Whether a term is pieces side by side, or a view of such."""
        if isinstance(body, Select):
            chain = len(body.guard.bounds) == 1 and not is_literal(body.outside, 0)
            return chain and not any(isinstance(t, Reduce) for t in postorder(body))
        known = self.known.get(body.tensor) if isinstance(body, Read) and is_index_map(body) else None
        return known is not None and known.polynomial is None

    def _goes_on(self, stage: Compute, products: int) -> bool:
        out = stage.outs[0]
        readers = self.program.consumers.get(out, ())
        if out in self.program.outputs or not readers:
            return False
        if out in self.constants:
            return True
        if is_index_map(stage.bodies[0]):
            return True
        if self.reach < Reach.SUMS and products > 1:
            return False
        anywhere = self.reach is Reach.ALL or out in self.always
        shared = anywhere and len(readers) <= MOST_READERS and products <= MOST_SHARED
        return len(readers) == 1 or shared


def opened(program: Program) -> Program:
    """The program with library calls that are sums of products (transforms) as the stages they stand for."""
    stages: list[Stage] = []
    for stage in program.stages:
        stages.extend(stage.defines if isinstance(stage, Kernel) and is_linear(stage) else (stage,))
    return program if len(stages) == len(program.stages) else program.with_stages(tuple(stages))


def is_linear(kernel: Kernel) -> bool:
    """Whether a library call stands for sums of products alone."""
    bodies = [b for s in kernel.defines if isinstance(s, Compute) for b in s.bodies]
    computed = all(isinstance(s, Compute) and len(s.outs) == 1 for s in kernel.defines)
    return bool(bodies) and computed and all(_is_product(t) for t in postorder(*bodies))


def _is_product(term: Scalar) -> bool:
    match term:
        case Reduce():
            return term.monoid == "sum"
        case Apply():
            return term.function in ("add", "sub", "mul", "neg", "real", "imag")
    return isinstance(term, (Read, Cast, Const, Select))


def _tops(body: Scalar, expander: Expander) -> list[Scalar]:
    """Polynomials with a sum inside that are operands of no polynomial."""
    inner = {c for t in postorder(body) if expander.is_known(t) for c in children(t)}
    return [
        t for t in postorder(body)
        if expander.is_known(t) and t not in inner and any(isinstance(s, Reduce) for s in postorder(t))
    ]  # fmt: skip


def _grows(stage: Compute) -> bool:
    """Whether a constant has more elements than what it is made of: an outer product, such as Kronecker's."""
    sizes = [[e for e in t.shape if isinstance(e, int)] for t in (*stage.outs, *stage_reads(stage))]
    made, *read = (prod(s) for s in sizes)
    return made > 2 * sum(read) and len(read) > 1 and any(isinstance(t, Apply) for t in postorder(*stage.bodies))


def is_worthwhile(polynomial: Polynomial) -> bool:
    """Whether there is anything to find: three factors or more, several products, or reads at shifted places."""
    if len(polynomial) > 1 or any(len(_reads(p)) > 2 or _has_lone_sum(p) for p in polynomial):
        return True
    return any(_is_shifted(w) for p in polynomial for f in p.factors for t in postorder(f) for w in own_indices(t))


def _is_shifted(where: Index) -> bool:
    """Whether an index is more than one iterator or a number."""
    return len(where.terms) > 1 or any(not isinstance(a, Iter) for a in where.atoms)


def _reads(product: Product) -> list[Scalar]:
    return [f for f in product.factors if any(isinstance(t, Read) for t in postorder(f))]


def _has_lone_sum(product: Product) -> bool:
    """Whether an iterator is summed that one factor alone depends on."""
    from tpopt.passes.derive.products import uses

    several = len(_reads(product)) > 1
    return several and any(sum(uses(f, i) for f in product.factors) < 2 for i in product.summed)
