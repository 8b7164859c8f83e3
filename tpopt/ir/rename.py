"""Renames symbols, iterators and tensors everywhere at once, and simplifies nothing on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tpopt.ir.index import Atom, FloorDiv, Index, Iter, Lookup, Mod, Size, Symbol, collect, index, size
from tpopt.ir.program import Alias, Program
from tpopt.ir.stages import Attribute, Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Bound, Guard, Position, Read, Reduce, Scalar, Select, Tensor
from tpopt.ir.walk import rebuild


@dataclass
class Renaming:
    """What becomes of symbols, iterators and tensor names; whatever is not listed keeps its name.

    A mapped iterator is replaced as it is given; the extents of all others, and the shapes of tensors, follow the
    symbols.
    """

    tensors: Mapping[str, str] = field(default_factory=dict)
    iterators: Mapping[Iter, Iter] = field(default_factory=dict)
    symbols: Mapping[Symbol, Symbol] = field(default_factory=dict)
    _indices: dict[Index, Index] = field(default_factory=dict)
    _tensors: dict[Tensor, Tensor] = field(default_factory=dict)

    def index(self, where: Index) -> Index:
        """An index, lookups included."""
        if where not in self._indices:
            terms = ((c, tuple(self.atom(a) for a in atoms)) for c, atoms in where.terms)
            self._indices[where] = collect(terms)
        return self._indices[where]

    def size(self, extent: Size) -> Size:
        """An extent."""
        return extent if isinstance(extent, int) else size(self.index(index(extent)))

    def atom(self, atom: Atom) -> Atom:
        """One atom of an index."""
        match atom:
            case Symbol():
                return self.symbols.get(atom, atom)
            case Iter():
                return self.iterator(atom)
            case Lookup():
                where = tuple(map(self.index, atom.indices))
                return Lookup(self.tensor(atom.tensor), where, self.index(atom.low), self.index(atom.high))
            case FloorDiv():
                return FloorDiv(self.index(atom.numerator), self.index(atom.denominator))
            case Mod():
                return Mod(self.index(atom.numerator), self.index(atom.denominator))

    def iterator(self, iterator: Iter) -> Iter:
        """An iterator."""
        found = self.iterators.get(iterator)
        return Iter(iterator.name, self.size(iterator.extent)) if found is None else found

    def tensor(self, tensor: Tensor) -> Tensor:
        """A tensor: its name and its shape."""
        if tensor not in self._tensors:
            name, shape = self.tensors.get(tensor.name, tensor.name), tuple(map(self.size, tensor.shape))
            self._tensors[tensor] = Tensor(name, shape, tensor.dtype, tensor.layout, tensor.structure)
        return self._tensors[tensor]

    def guard(self, guard: Guard) -> Guard:
        """A guard, its bounds in the given order."""
        bounds = (Bound(self.index(b.low), self.index(b.value), self.index(b.high)) for b in guard.bounds)
        return Guard(tuple(bounds))

    def term(self, root: Scalar) -> Scalar:
        """A scalar term."""
        return rebuild(root, self._node)

    def _node(self, term: Scalar) -> Scalar:
        match term:
            case Read():
                return Read(self.tensor(term.tensor), tuple(map(self.index, term.indices)))
            case Position():
                return Position(self.index(term.value))
            case Select():
                return Select(self.guard(term.guard), term.inside, term.outside)
            case Reduce():
                return Reduce(term.monoid, tuple(map(self.iterator, term.iters)), term.bodies, term.pick)
            case _:
                return term

    def attribute(self, value: Attribute) -> Attribute:
        """An attribute: the tensors and indices in it."""
        match value:
            case Tensor():
                return self.tensor(value)
            case Index():
                return self.index(value)
            case tuple():
                return tuple(map(self.attribute, value))
            case _:
                return value

    def many(self, tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Several tensors."""
        return tuple(map(self.tensor, tensors))

    def stage(self, stage: Stage) -> Stage:
        """A stage; the programs in it get the symbols alone, for they name their tensors themselves."""
        match stage:
            case Compute():
                loops = tuple(map(self.iterator, stage.loops))
                return Compute(self.many(stage.outs), loops, tuple(map(self.term, stage.bodies)))
            case Scatter():
                return self._scatter(stage)
            case Scan():
                outs, init, xs = self.many(stage.outs), self.many(stage.init), self.many(stage.xs)
                body = self._nested(stage.body)
                return Scan(outs, init, xs, self.many(stage.captures), self.iterator(stage.over), body)
            case Cond():
                outs, captures = self.many(stage.outs), self.many(stage.captures)
                then, otherwise = self._nested(stage.then), self._nested(stage.otherwise)
                return Cond(outs, self.tensor(stage.predicate), captures, then, otherwise)
            case Sort():
                values, indices, source = self.many((stage.values, stage.indices, stage.source))
                return Sort(values, indices, source, stage.axis, stage.descending, stage.stable)
            case TopK():
                values, indices, source = self.many((stage.values, stage.indices, stage.source))
                return replace(stage, values=values, indices=indices, source=source, k=self.size(stage.k))
            case Kernel():
                defines = tuple(map(self.stage, stage.defines))
                return replace(
                    stage,
                    outs=self.many(stage.outs),
                    reads=self.many(stage.reads),
                    defines=defines,
                    parameters=self._pairs(stage.parameters),
                )
            case Opaque():
                args = tuple(map(self.attribute, stage.args))
                return replace(stage, outs=self.many(stage.outs), args=args, kwargs=self._pairs(stage.kwargs))

    def program(self, program: Program) -> Program:
        """A whole program, without its values and origins."""
        return Program(
            program.name,
            self.many(program.inputs),
            self.many(program.weights),
            tuple(map(self.stage, program.stages)),
            self.many(program.outputs),
            tuple(Alias(a.output, self.tensors.get(a.target, a.target)) for a in program.aliases),
            tuple(self.symbols.get(s, s) for s in program.symbols),
        )

    def _scatter(self, stage: Scatter) -> Scatter:
        loops, at = tuple(map(self.iterator, stage.loops)), tuple(map(self.index, stage.at))
        guard = None if stage.guard is None else self.guard(stage.guard)
        out, base, value = self.tensor(stage.out), self.tensor(stage.base), self.term(stage.value)
        return Scatter(out, base, stage.op, loops, at, value, guard)

    def _nested(self, program: Program) -> Program:
        return Renaming(symbols=self.symbols).program(program)

    def _pairs(self, pairs: tuple[tuple[str, Attribute], ...]) -> tuple[tuple[str, Attribute], ...]:
        return tuple((name, self.attribute(value)) for name, value in pairs)


class _Recorder(dict[Symbol, Symbol]):
    """Remembers which symbols a renaming asks for, in order."""

    def get(self, key: Symbol, default: Symbol | None = None) -> Symbol:  # type: ignore[override]
        return self.setdefault(key, key)


def symbols_used(stage: Stage) -> tuple[Symbol, ...]:
    """Symbols in a stage, in order of appearance, without those that a program nested in it declares."""
    found = _Recorder()
    Renaming(symbols=found).stage(stage)
    own = {Scan: ("body",), Cond: ("then", "otherwise")}.get(type(stage), ())
    declared = [s for name in own for s in getattr(stage, name).symbols]
    return tuple(s for s in found if s not in declared)
