"""Digests of terms, stages and programs that do not depend on the names in them.

A tensor counts as the digest of how it was computed from inputs and weights. Iterators count by name: they must have
been put in canonical form (:mod:`tpopt.ir.labels`) before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from operator import attrgetter

from tpopt.ir.dtypes import DType
from tpopt.ir.functions import FUNCTIONS
from tpopt.ir.index import Atom, FloorDiv, Index, IndexLike, Iter, Lookup, Mod, Symbol, index
from tpopt.ir.program import Program
from tpopt.ir.stages import Attribute, Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Apply, Bound, Cast, Const, Guard, Position, Read, Reduce, Scalar, Select, Tensor
from tpopt.ir.walk import children

TensorKey = Callable[[Tensor], str]
MARK = "%"
"""First character of the canonical names of iterators and steps."""


def digest(*parts: object) -> str:
    """128-bit hex digest of what the parts print as."""
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


class Digests:
    """Digests under one reading of tensors, symbols and iterators; computed once for each term.

    Iterators count by their canonical names unless ``iterator`` says otherwise. Symbols that are not listed count by
    their range.
    """

    def __init__(
        self,
        tensor: TensorKey,
        symbols: Mapping[Symbol, object],
        iterator: Callable[[Iter], object] = attrgetter("name"),
    ) -> None:
        self.tensor = tensor
        self.symbols = symbols
        self._iterator = iterator
        self._indices: dict[Index, str] = {}
        self._terms: dict[Scalar, str] = {}

    def index(self, where: IndexLike) -> str:
        """Digest of an index."""
        key = index(where)
        if key not in self._indices:
            self._indices[key] = digest(*sorted((c, sorted(map(self._atom, atoms))) for c, atoms in key.terms))
        return self._indices[key]

    def _atom(self, atom: Atom) -> str:
        match atom:
            case Iter():
                return repr((self._iterator(atom), self.index(atom.extent)))
            case Symbol():
                step = atom.name if atom.name.startswith(MARK) else ""
                return repr(("symbol", self.symbols.get(atom, (step, atom.low, atom.high))))
            case FloorDiv() | Mod():
                return repr((type(atom).__name__, self.index(atom.numerator), self.index(atom.denominator)))
            case Lookup():
                where = [self.index(i) for i in (*atom.indices, atom.low, atom.high)]
                return repr(("lookup", self.tensor(atom.tensor), where))

    def guard(self, guard: Guard) -> list[str]:
        """Digests of the bounds, sorted."""
        return sorted(map(self.bound, guard.bounds))

    def bound(self, bound: Bound) -> str:
        """Digest of one bound of a guard."""
        return digest(self.index(bound.low), self.index(bound.value), self.index(bound.high))

    def term(self, root: Scalar) -> str:
        """Digest of a scalar term; arguments of commutative functions and bounds of guards count in any order."""
        known = self._terms
        pending = [root]
        while pending:
            term = pending[-1]
            missing = [c for c in children(term) if c not in known]
            if missing and term not in known:
                pending.extend(missing)
                continue
            pending.pop()
            if term not in known:
                known[term] = self._node(term, [known[c] for c in children(term)])
        return known[root]

    def _node(self, term: Scalar, operands: list[str]) -> str:
        match term:
            case Const():
                return digest("const", repr(term.value), str(term.dtype))
            case Read():
                return digest("read", self.tensor(term.tensor), [self.index(i) for i in term.indices])
            case Position():
                return digest("position", self.index(term.value))
            case Cast():
                return digest("cast", str(term.dtype), operands)
            case Select():
                return digest("select", self.guard(term.guard), operands)
            case Reduce():
                bound = sorted(map(self._atom, term.iters))
                return digest("reduce", term.monoid, bound, operands, term.pick)
            case Apply():
                commutes = FUNCTIONS[term.function].commutative
                return digest(term.function, sorted(operands) if commutes else operands)

    def kind(self, tensor: Tensor) -> str:
        """Digest of a tensor's type: element type, shape, layout and structure."""
        shape = [self.index(e) for e in tensor.shape]
        return digest(str(tensor.dtype), shape, tensor.layout, str(tensor.structure))

    def stage(self, stage: Stage) -> str:
        """Digest of a stage."""
        kinds = [self.kind(o) for o in stage.outs]
        match stage:
            case Compute():
                return digest("compute", kinds, [self.term(b) for b in stage.bodies])
            case Scatter():
                loops, at = [self.index(i.extent) for i in stage.loops], [self.index(i) for i in stage.at]
                guard = None if stage.guard is None else self.guard(stage.guard)
                return digest(
                    "scatter", kinds, self.tensor(stage.base), stage.op, loops, at, self.term(stage.value), guard
                )
            case Scan():
                lists = [list(map(self.tensor, t)) for t in (stage.init, stage.xs, stage.captures)]
                return digest("scan", kinds, lists, self.index(stage.over.extent), self.program(stage.body))
            case Cond():
                reads = list(map(self.tensor, (stage.predicate, *stage.captures)))
                return digest("cond", kinds, reads, self.program(stage.then), self.program(stage.otherwise))
            case Sort():
                order = (stage.axis, stage.descending, stage.stable)
                return digest("sort", kinds, self.tensor(stage.source), order)
            case TopK():
                flags = (self.index(stage.k), stage.axis, stage.largest, stage.sorted)
                return digest("topk", kinds, self.tensor(stage.source), flags)
            case Kernel():
                reads, algebra = list(map(self.tensor, stage.reads)), self.program(kernel_program(stage))
                named = (stage.implementation, self._pairs(stage.parameters), stage.layouts)
                return digest("kernel", kinds, reads, named, algebra)
            case Opaque():
                args = [self._attribute(a) for a in stage.args]
                return digest("opaque", kinds, stage.target, args, self._pairs(stage.kwargs), stage.effectful)

    def program(self, program: Program) -> str:
        """Digest of a nested program."""
        _, known = keyed_stages(program, self.symbols, lambda stage, _: stage)
        own = Digests(known.__getitem__, self.symbols)
        types = [[own.kind(t) for t in tensors] for tensors in (program.inputs, program.weights)]
        aliases = [(a.output, known[program.tensors[a.target]]) for a in program.aliases]
        return digest(types, [known[t] for t in program.outputs], sorted(known.values()), aliases)

    def _attribute(self, value: Attribute) -> str:
        match value:
            case Tensor():
                return digest("tensor", self.tensor(value))
            case Index():
                return digest("index", self.index(value))
            case DType():
                return digest("dtype", str(value))
            case tuple():
                return digest("tuple", [self._attribute(v) for v in value])
            case _:
                return digest(type(value).__name__, repr(value))

    def _pairs(self, pairs: tuple[tuple[str, Attribute], ...]) -> list[tuple[str, str]]:
        return [(name, self._attribute(value)) for name, value in pairs]


def kernel_program(stage: Kernel) -> Program:
    """The algebra of a kernel as a program over its reads."""
    outputs = stage.outs if stage.defines else ()
    return Program("kernel", stage.reads, (), stage.defines, outputs)


def source_keys(program: Program) -> dict[Tensor, str]:
    """A digest for each input and weight: of its place."""
    roles = (("input", program.inputs), ("weight", program.weights))
    return {t: digest(role, n) for role, tensors in roles for n, t in enumerate(tensors)}


def keyed_stages(
    program: Program, symbols: Mapping[Symbol, object], change: Callable[[Stage, Digests], Stage]
) -> tuple[tuple[Stage, ...], dict[Tensor, str]]:
    """Changes each stage, given the digests of what it reads; returns the stages and a digest for each tensor.

    Effectful stages count by their order too.
    """
    keys = source_keys(program)
    digests = Digests(keys.__getitem__, symbols)
    stages: list[Stage] = []
    effects = 0
    for given in program.stages:
        stage = change(given, digests)
        stages.append(stage)
        own = digests.stage(stage)
        if isinstance(stage, Opaque) and stage.effectful:
            own, effects = digest(own, "effect", effects), effects + 1
        keys.update((out, digest(own, n)) for n, out in enumerate(stage.outs))
    return tuple(stages), keys
