"""Evaluation of a program over a finite field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from tpopt.errors import UnsupportedInput
from tpopt.ir.dtypes import DType
from tpopt.ir.exact.arithmetic import Residues
from tpopt.ir.exact.complexes import PAIR, pair
from tpopt.ir.exact.field import PRIME, Field
from tpopt.ir.exact.oracle import generator
from tpopt.ir.exact.weights import weight
from tpopt.ir.interpret.affine import number
from tpopt.ir.interpret.bind import by_name, plain_array
from tpopt.ir.interpret.run import run_program
from tpopt.ir.interpret.state import State
from tpopt.ir.program import Array, Program
from tpopt.ir.stages import Attribute, Opaque, Stage
from tpopt.ir.terms import Tensor
from tpopt.ir.walk import stage_reads


def interpret_exact(
    program: Program,
    inputs: Sequence[Array] | Mapping[str, Array],
    *,
    seed: int = 0,
    prime: int = PRIME,
    keep: Iterable[str] = (),
    actual: Collection[str] = (),
    on_stage: Callable[[Stage, tuple[Array, ...]], None] | None = None,
) -> tuple[Array, ...]:
    """Evaluates a program modulo a prime: its outputs, then the tensors named in ``keep``, as ``int64`` residues.

    Programs that are equal by the laws of a field, of a total order, of ``exp(a + b) = exp(a) * exp(b)`` and by equal
    arguments giving equal results give equal arrays. Programs that differ give different ones but for an accident of
    probability about 1/prime for each element (1/83 for a difference that only an argument of exp shows), which
    another seed and other inputs exclude. It proves nothing about rounding or overflow.

    * Floats are residues. Literals are the fractions they are exactly. -1, -2 and -3 in the results stand for infinity,
      minus infinity and NaN, which follow IEEE rules with the sign of the symmetric representative.
    * Comparisons, ``max``, ``min``, ``abs`` and sorting compare symmetric representatives, in (-prime/2, prime/2):
      the order of small integers, and some total order elsewhere. So lattice laws hold; ``max(a, b) + c`` equals
      ``max(a + c, b + c)`` only on inputs that are small integers (``random_field_inputs(..., small=)``).
    * Rounding, remainders and conversion to integers are exact on integers below 2**24, random elsewhere.
    * Other functions are random, drawn by the seed from their name and arguments; the real value at 0 is kept.
    * Complex numbers are pairs of residues, along a last axis of extent 2 in inputs and results; ``dft`` weights are
      roots of unity. Dense float weights are random residues drawn from the seed and their name, except those named in
      ``actual``, which keep their stored values. Integers and bools are what they are.
    * Lookups are folded into their bounds. Opaque calls are random functions of all their arguments.

    Raises :class:`UnsupportedInput` for inputs that do not fit and transforms of an order that does not divide prime-1.
    """
    field = Field(prime)
    arithmetic = Residues(field, seed)

    def value(owner: Program, tensor: Tensor) -> Array:
        shape = [number(e, state.symbols) for e in tensor.shape]
        return weight(field, seed, tensor, shape, owner.constants, tensor.name in actual)

    def oracle(stage: Opaque, arrays: list[Array]) -> tuple[Array, ...]:
        return _opaque(arithmetic, state.symbols, stage, arrays)

    state = State(arithmetic, value, oracle)
    named = by_name(program, inputs)
    arrays = [_lifted(field, t, np.asarray(named[t.name])) for t in program.inputs]
    wanted = [*program.outputs, *(program.tensors[name] for name in keep if name in program.tensors)]
    results = run_program(state, program, arrays, list(keep), on_stage)
    return tuple(_lowered(arithmetic, t, r) for t, r in zip(wanted, results, strict=True))


def _lifted(field: Field, tensor: Tensor, value: Array) -> Array:
    """An input in the interpreter's storage."""
    if not (tensor.dtype.is_float or tensor.dtype.is_complex):
        return plain_array(tensor, value)
    if value.dtype.kind not in "iu":
        raise UnsupportedInput(f"{tensor.name}: expected residues as integers, got a {value.dtype} array")
    residues = np.asarray(field.reduce(field.symmetric(value.astype(np.int64))))
    if not tensor.dtype.is_complex:
        return residues
    if value.shape[-1:] != (2,):
        raise UnsupportedInput(
            f"{tensor.name}: expected real and imaginary parts along a last axis of extent 2, got {value.shape}"
        )
    return pair(residues[..., 0], residues[..., 1])


def _lowered(arithmetic: Residues, tensor: Tensor, value: Array) -> Array:
    """A result modulo the prime."""
    if tensor.dtype.is_complex:
        return np.stack([arithmetic.numbers.residues(value[part]) for part in ("re", "im")], axis=-1)
    return arithmetic.numbers.residues(value) if tensor.dtype.is_float else np.array(value, order="C")


def _opaque(
    arithmetic: Residues, symbols: Mapping[str, int], stage: Opaque, arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """Random outputs drawn from the call and the residues of everything it reads."""
    places = {t: f"#{n}" for n, t in enumerate(stage_reads(stage))}
    key = [arithmetic.seed, stage.target, _spelled((stage.args, stage.kwargs), places)]
    key += [part.tobytes().hex() for array in arrays for part in _plain(arithmetic, array)]
    outs = []
    for n, tensor in enumerate(stage.outs):
        shape, rng = [number(e, symbols) for e in tensor.shape], generator("opaque", *key, n)
        if tensor.dtype.is_complex:
            outs.append(pair(*(rng.integers(0, arithmetic.field.modulus, shape) for _ in range(2))))
        else:
            below = arithmetic.field.modulus if tensor.dtype.is_float else 2 if tensor.dtype is DType.BOOL else 8
            outs.append(rng.integers(0, below, shape).astype(arithmetic.storage(tensor.dtype)))
    return tuple(outs)


def _plain(arithmetic: Residues, array: Array) -> list[Array]:
    """What a random function may depend on: residues modulo the prime."""
    if array.dtype == PAIR:
        return [arithmetic.numbers.residues(array[part]) for part in ("re", "im")]
    return [arithmetic.numbers.residues(array) if array.dtype == np.int64 else array]


def _spelled(value: Attribute, places: Mapping[Tensor, str]) -> str:
    """An attribute as text, with tensors by their position among the call's tensors."""
    if isinstance(value, Tensor):
        return places[value]
    return f"({','.join(_spelled(v, places) for v in value)})" if isinstance(value, tuple) else repr(value)
