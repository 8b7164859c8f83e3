"""Random inputs for a program: residues for floats, integers within the bounds that they are looked up with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tpopt.ir.dtypes import DType
from tpopt.ir.exact.field import PRIME
from tpopt.ir.exact.oracle import generator
from tpopt.ir.index import Index, Lookup, walk_atoms
from tpopt.ir.interpret.affine import number
from tpopt.ir.program import Array, Program
from tpopt.ir.stages import Compute, Cond, Kernel, Scan, Scatter, Stage
from tpopt.ir.terms import Apply, Cast, Read, Scalar, Select, Tensor
from tpopt.ir.walk import guard_indices, own_indices, postorder

Bounds = dict[str, tuple[int, int]]


def random_field_inputs(
    program: Program, seed: int, sizes: Mapping[str, int] | None = None, *, prime: int = PRIME, small: int | None = None
) -> dict[str, Array]:
    """Inputs for :func:`interpret_exact` by name, symbols at ``sizes``.

    Floats are uniform residues, or integers of magnitude at most ``small``: on those, ordered functions mean what they
    mean on real numbers. Complex inputs have their two parts along a last axis of extent 2. Integers lie within the
    bounds of the lookups that read them (directly, or copied), else within [0, 8).
    """
    bounds, known = lookup_bounds(program, sizes or {}), dict(sizes or {})
    low, high = (0, prime) if small is None else (-small, small + 1)
    found: dict[str, Array] = {}
    for tensor in program.inputs:
        shape = [number(e, known) for e in tensor.shape]
        rng = generator("input", seed, tensor.name)
        if tensor.dtype.is_float or tensor.dtype.is_complex:
            found[tensor.name] = rng.integers(low, high, (*shape, 2) if tensor.dtype.is_complex else shape)
        elif tensor.dtype is DType.BOOL:
            found[tensor.name] = rng.integers(0, 2, shape).astype(bool)
        else:
            first, end = bounds.get(tensor.name, (0, 8))
            found[tensor.name] = rng.integers(first, max(end, first + 1), shape)
    return found


def lookup_bounds(program: Program, sizes: Mapping[str, int]) -> Bounds:
    """The values ``[low, high)`` that each integer tensor may hold, by the lookups that read it or a copy of it.

    Bounds that depend on anything but symbols are left out.
    """
    bounds: Bounds = {}
    _from_stages(program.stages, dict(sizes), bounds)
    return bounds


def _from_stages(stages: Iterable[Stage], sizes: Mapping[str, int], bounds: Bounds) -> None:
    for stage in reversed(list(stages)):
        match stage:
            case Compute():
                for atom in _lookups(stage.bodies, ()):
                    _narrow(bounds, atom.tensor, atom, sizes)
                for out, body in zip(stage.outs, stage.bodies, strict=True):
                    for source in _copied(body) if out.name in bounds else ():
                        _meet(bounds, source.name, bounds[out.name])
            case Scatter():
                guards = () if stage.guard is None else guard_indices(stage.guard)
                for atom in _lookups((stage.value,), (*stage.at, *guards)):
                    _narrow(bounds, atom.tensor, atom, sizes)
            case Kernel():
                _from_stages(stage.defines, sizes, bounds)
            case Scan():
                _from_body(stage.body, (*stage.init, *stage.xs, *stage.captures), sizes, bounds)
            case Cond():
                for branch in (stage.then, stage.otherwise):
                    _from_body(branch, stage.captures, sizes, bounds)
            case _:
                continue


def _from_body(body: Program, outer: Iterable[Tensor], sizes: Mapping[str, int], bounds: Bounds) -> None:
    inner = lookup_bounds(body, sizes)
    for tensor, given in zip(body.inputs, outer, strict=True):
        if tensor.name in inner:
            _meet(bounds, given.name, inner[tensor.name])


def _lookups(terms: Iterable[Scalar], more: Iterable[Index]) -> Iterable[Lookup]:
    indices = [*more, *(i for t in postorder(*terms) for i in own_indices(t))]
    return dict.fromkeys(a for i in indices for a in walk_atoms(i) if isinstance(a, Lookup))


def _narrow(bounds: Bounds, tensor: Tensor, atom: Lookup, sizes: Mapping[str, int]) -> None:
    known = all(getattr(a, "name", None) in sizes for i in (atom.low, atom.high) for a in walk_atoms(i))
    if known:
        _meet(bounds, tensor.name, (number(atom.low, sizes), number(atom.high, sizes)))


def _meet(bounds: Bounds, name: str, new: tuple[int, int]) -> None:
    low, high = bounds.get(name, new)
    bounds[name] = (max(low, new[0]), min(high, new[1]))


def _copied(body: Scalar) -> Iterable[Tensor]:
    """Tensors whose elements a term passes on unchanged."""
    pending, found = [body], dict[Tensor, None]()
    while pending:
        term = pending.pop()
        match term:
            case Read() if term.dtype.is_integer:
                found[term.tensor] = None
            case Cast() if term.value.dtype.is_integer:
                pending.append(term.value)
            case Select():
                pending += [term.inside, term.outside]
            case Apply(function="where"):
                pending += term.args[1:]
            case _:
                continue
    return found
