"""Well-formedness of a Program: single assignment, definition before use, names in scope, types that fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tpopt.errors import InvalidProgram
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, IndexLike, Iter, Symbol, walk_atoms
from tpopt.ir.program import Program
from tpopt.ir.stages import Attribute, Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Reduce, Scalar, Tensor
from tpopt.ir.walk import children, guard_indices, own_indices, postorder, stage_reads


@dataclass
class _Scope:
    """What is defined where a stage stands."""

    symbols: dict[str, Symbol]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def define(self, tensor: Tensor) -> None:
        if tensor.name in self.tensors:
            raise InvalidProgram(f"tensor {tensor.name} is defined twice")
        self.check_symbols(f"tensor {tensor.name}", tensor.shape)
        self.tensors[tensor.name] = tensor

    def check_symbols(self, where: str, indices: Iterable[IndexLike]) -> None:
        for i in indices:
            for atom in () if isinstance(i, int) else walk_atoms(i):
                if isinstance(atom, Symbol) and self.symbols.get(atom.name) is not atom:
                    raise InvalidProgram(f"{where}: symbol {atom!r} is not among the program's symbols")


def validate(program: Program) -> None:
    """Raises :class:`InvalidProgram` naming the stage and the tensor at fault."""
    _validate(program, {})


def check_stage(stage: Stage, defined: dict[str, Tensor], symbols: Mapping[str, Symbol]) -> None:
    """Checks one stage against the tensors and symbols defined before it, then adds its outputs to ``defined``."""
    _check_stage(stage, _Scope(dict(symbols), defined))


def _validate(program: Program, outer: Mapping[str, Symbol]) -> None:
    scope = _Scope({**outer, **{s.name: s for s in program.symbols}})
    for tensor in (*program.inputs, *program.weights):
        scope.define(tensor)
    for stage in program.stages:
        _check_stage(stage, scope)
    for out in program.outputs:
        if scope.tensors.get(out.name) is not out:
            raise InvalidProgram(f"output {out!r} is not defined by any stage, input or weight")
    for alias in program.aliases:
        if not 0 <= alias.output < len(program.outputs) or alias.target not in scope.tensors:
            raise InvalidProgram(f"alias of output {alias.output} to {alias.target!r}: no such output or tensor")


def _check_stage(stage: Stage, scope: _Scope) -> None:
    name = ", ".join(o.name for o in stage.outs)
    for tensor in stage_reads(stage):
        known = scope.tensors.get(tensor.name)
        if known is not tensor:
            why = "is not defined before it" if known is None else f"is defined as {known!r}"
            raise InvalidProgram(f"stage {name} reads {tensor!r}, which {why}")
    match stage:
        case Compute():
            _check_iterators(stage.bodies, stage.loops, (), name, scope)
        case Scatter():
            guard = () if stage.guard is None else guard_indices(stage.guard)
            _check_iterators((stage.value,), stage.loops, (*stage.at, *guard), name, scope)
        case Scan():
            _check_scan(stage, name)
            _validate(stage.body, scope.symbols)
        case Cond():
            _check_cond(stage, name)
            _validate(stage.then, scope.symbols)
            _validate(stage.otherwise, scope.symbols)
        case Sort() | TopK():
            _check_order(stage, name)
        case Kernel():
            _check_kernel(stage, name, scope)
        case Opaque():
            scope.check_symbols(f"stage {name}", _attribute_indices((*stage.args, *(v for _, v in stage.kwargs))))
    for out in stage.outs:
        scope.define(out)


def _check_iterators(
    bodies: tuple[Scalar, ...], loops: tuple[Iter, ...], own: tuple[Index, ...], name: str, scope: _Scope
) -> None:
    """Iterators are bound once, by a loop or by a reduction around every read of them, under names of their own."""
    bound = {i.name: i for i in loops}
    if len(bound) < len(loops) or any(i.name in scope.symbols for i in loops):
        raise InvalidProgram(f"stage {name}: two of its loops and symbols share a name: {list(map(repr, loops))}")
    scope.check_symbols(f"stage {name}", (i.extent for i in loops))
    within: dict[Scalar, frozenset[Iter]] = {}  # the iterators that reductions in a term bind
    free: dict[Scalar, frozenset[Iter]] = {}  # those that it reads without binding them
    for term in postorder(*bodies):
        read = frozenset(_iterators(own_indices(term), name, scope))
        free[term] = read.union(*(free[c] for c in children(term)))
        within[term] = frozenset().union(*(within[c] for c in children(term)))
        for iterator in term.iters if isinstance(term, Reduce) else ():
            if iterator in within[term] or iterator in loops:
                raise InvalidProgram(
                    f"stage {name}: iterator {iterator!r} is bound twice, one binding inside the other"
                )
            if bound.setdefault(iterator.name, iterator) is not iterator or iterator.name in scope.symbols:
                raise InvalidProgram(f"stage {name}: two of its iterators and symbols share the name {iterator.name!r}")
            scope.check_symbols(f"stage {name}", (iterator.extent,))
        if isinstance(term, Reduce):
            free[term] -= frozenset(term.iters)
            within[term] |= frozenset(term.iters)
    unbound = [*_iterators(own, name, scope), *(i for b in bodies for i in sorted(free[b], key=repr))]
    for iterator in unbound:
        if iterator not in loops:
            raise InvalidProgram(f"stage {name}: iterator {iterator!r} is not bound by a loop or a reduction")


def _iterators(indices: tuple[Index, ...], name: str, scope: _Scope) -> list[Iter]:
    scope.check_symbols(f"stage {name}", indices)
    return [a for i in indices for a in walk_atoms(i) if isinstance(a, Iter)]


def _check_scan(stage: Scan, name: str) -> None:
    carried, sliced = len(stage.init), len(stage.init) + len(stage.xs)
    inputs, outputs = stage.body.inputs, stage.body.outputs
    for n, start in enumerate(stage.init):
        for other in (inputs[n], outputs[n], stage.outs[n]):
            _same(f"scan {name}: carry {n}", start, other.dtype, other.shape)
    wholes, parts = (*stage.xs, *stage.outs[carried:]), (*inputs[carried:sliced], *outputs[carried:])
    for whole, part in zip(wholes, parts, strict=True):
        _same(f"scan {name}: slice {part.name}", whole, part.dtype, (stage.over.extent, *part.shape))
    for outside, inside in zip(stage.captures, inputs[sliced:], strict=True):
        _same(f"scan {name}: capture {inside.name}", outside, inside.dtype, inside.shape)


def _check_cond(stage: Cond, name: str) -> None:
    _same(f"cond {name}: predicate", stage.predicate, DType.BOOL, ())
    for branch in (stage.then, stage.otherwise):
        if len(branch.inputs) != len(stage.captures) or len(branch.outputs) != len(stage.outs):
            raise InvalidProgram(
                f"cond {name}: branch {branch.name} takes {len(branch.inputs)} tensors and yields "
                f"{len(branch.outputs)}; expected {len(stage.captures)} and {len(stage.outs)}"
            )
        for outside, inside in zip((*stage.captures, *stage.outs), (*branch.inputs, *branch.outputs), strict=True):
            _same(f"cond {name}: {inside.name} of branch {branch.name}", outside, inside.dtype, inside.shape)


def _check_order(stage: Sort | TopK, name: str) -> None:
    shape = list(stage.source.shape)
    if not 0 <= stage.axis < max(len(shape), 1):
        raise InvalidProgram(f"stage {name}: axis {stage.axis} of {stage.source!r} does not exist")
    if isinstance(stage, TopK) and shape:
        shape[stage.axis] = stage.k
    _same(f"stage {name}: values", stage.values, stage.source.dtype, tuple(shape))
    _same(f"stage {name}: positions", stage.indices, DType.I64, tuple(shape))


def _check_kernel(stage: Kernel, name: str, scope: _Scope) -> None:
    inner = _Scope(scope.symbols, {t.name: t for t in stage.reads})
    for part in stage.defines:
        _check_stage(part, inner)
    missing = [o.name for o in stage.outs if inner.tensors.get(o.name) is not o]
    if missing and stage.defines:
        raise InvalidProgram(f"kernel {name}: its algebra does not define {', '.join(missing)}")
    given, wanted = len(stage.layouts), len(stage.reads) + len(stage.outs)
    if given and given != wanted:
        raise InvalidProgram(f"kernel {name}: {given} layouts for {wanted} tensors")


def _attribute_indices(values: tuple[Attribute, ...]) -> list[Index]:
    found: list[Index] = []
    for value in values:
        if isinstance(value, Index):
            found.append(value)
        elif isinstance(value, tuple):
            found += _attribute_indices(value)
    return found


def _same(what: str, tensor: Tensor, dtype: DType, shape: tuple[IndexLike, ...]) -> None:
    """Types must agree; extents too, where both are numbers (symbolic ones may be equal in ways not proved here)."""
    extents = zip(tensor.shape, shape, strict=False)
    differ = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in extents)
    if tensor.dtype is not dtype or len(tensor.shape) != len(shape) or differ:
        raise InvalidProgram(f"{what} is {tensor!r}, expected {dtype}[{','.join(map(str, shape))}]")
