"""The reference semantics of a Program, on numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tpopt.errors import UnknownName, UnsupportedInput
from tpopt.ir.interpret.bind import bind_symbols, by_name, narrow_array, plain_array
from tpopt.ir.interpret.compute import run_compute
from tpopt.ir.interpret.control import run_cond, run_kernel, run_opaque, run_scan, run_scatter, run_sort, run_topk
from tpopt.ir.interpret.reals import Reals
from tpopt.ir.interpret.rounding import round_to
from tpopt.ir.interpret.state import OpaqueHook, StageHook, State, TopHook
from tpopt.ir.materialize import is_formula, materialize
from tpopt.ir.program import Array, Program
from tpopt.ir.stages import Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Tensor


def interpret(
    program: Program,
    inputs: Sequence[Array] | Mapping[str, Array],
    *,
    constants: Mapping[str, Array] | None = None,
    keep: Iterable[str] = (),
    on_stage: StageHook | None = None,
    opaque: OpaqueHook | None = None,
    top: TopHook | None = None,
    rounding: bool = False,
) -> tuple[Array, ...]:
    """Evaluates a program: its outputs, then the tensors named in ``keep``.

    Floats of every type are computed in float64 and complex numbers in complex128, so that the result stands for the
    real-number value; ``rounding`` rounds to the tensor's type at every Cast and stage output instead. Integers wrap
    around at their width. bf16 values may come as their bits in ``uint16``; results are float64, complex128, integers
    or bool. ``constants`` replaces the program's own. ``on_stage(stage, arrays)`` sees each stage's outputs (read-only
    views, perhaps), and ``opaque(stage, arrays)`` computes opaque stages from the arrays of ``stage_reads(stage)``.
    ``top(stage, source, k)`` returns positions of the ``k`` best values along the stage's axis (``i64``): which of
    equal values an operator takes is its own affair. Where its values are not the best, the first of these are taken.

    Raises :class:`UnsupportedInput` for inputs that do not fit and lookups that break their bounds,
    :class:`InvalidProgram` for an unguarded read out of bounds.
    """
    given = program.constants if constants is None else constants
    arithmetic = Reals(rounding)

    def weight(owner: Program, tensor: Tensor) -> Array:
        return _weight(tensor, given if owner is program else owner.constants)

    state = State(arithmetic, weight, None if opaque is None else _hooked(opaque), top)
    named = by_name(program, inputs)
    arrays = [plain_array(t, named[t.name]) for t in program.inputs]
    if rounding:
        arrays = [
            round_to(a, t.dtype) if a.dtype.kind in "fc" else a for t, a in zip(program.inputs, arrays, strict=True)
        ]
    kept = list(keep)
    results = run_program(state, program, arrays, kept, on_stage)
    return tuple(np.array(r, order="C") for r in results)


def _hooked(opaque: OpaqueHook) -> OpaqueHook:
    """The caller's hook, given arrays of its own (contiguous, writable); what it returns is converted as inputs are."""

    def call(stage: Opaque, arrays: list[Array]) -> tuple[Array, ...]:
        results = opaque(stage, [np.require(a, requirements=["C", "W"]) for a in arrays])
        return tuple(plain_array(t, r) for t, r in zip(stage.outs, results, strict=True))

    return call


def _weight(tensor: Tensor, constants: Mapping[str, Array]) -> Array:
    if tensor.name in constants:
        return narrow_array(tensor, constants[tensor.name])
    if not is_formula(tensor.structure):
        raise UnsupportedInput(f"weight {tensor.name} has no value: pass it in constants=")
    values = materialize(tensor)
    return plain_array(tensor, values if values.dtype.kind == "c" or tensor.dtype.is_float else values.astype(np.int64))


def run_program(
    state: State, program: Program, inputs: Sequence[Array], keep: Sequence[str] = (), on_stage: StageHook | None = None
) -> tuple[Array, ...]:
    """Runs every stage on arrays in the state's storage; frees each tensor after its last use."""
    for name in keep:
        if name not in program.tensors:
            raise UnknownName("tensor", name, list(program.tensors))
    shapes = [(t, a.shape) for t, a in zip(program.inputs, inputs, strict=True)]
    state.symbols.update(bind_symbols(shapes, state.symbols))
    state.tensors.update({t.name: a for t, a in zip(program.inputs, inputs, strict=True)})
    wanted = (*(t.name for t in program.outputs), *keep)
    uses = state.uses(program, wanted)
    for number, stage in enumerate(program.stages):
        _load(state, program, uses.weights[number])
        outs = run_stage(state, stage)
        if on_stage is not None:
            on_stage(stage, outs)
        for name in uses.ended[number]:
            del state.tensors[name]
    _load(state, program, [t for t in program.weights if t.name in wanted])
    return tuple(state.array(program.tensors[name]) for name in wanted)


def _load(state: State, program: Program, weights: Sequence[Tensor]) -> None:
    """Weights are fetched when the first stage reads them, and freed as other tensors are."""
    for tensor in weights:
        if tensor.name not in state.tensors:
            value = state.weights(program, tensor)
            bind_symbols([(tensor, value.shape)], state.symbols)
            state.tensors[tensor.name] = value


def run_stage(state: State, stage: Stage) -> tuple[Array, ...]:
    """Runs one stage and stores its outputs. Raises :class:`InvalidProgram` if their shapes are not as declared."""
    outs = _dispatch(state, stage)
    for tensor, value in zip(stage.outs, outs, strict=True):
        state.symbols.update(bind_symbols([(tensor, value.shape)], state.symbols))
        state.tensors[tensor.name] = state.arithmetic.stored(value, tensor.dtype)
    return tuple(state.tensors[t.name] for t in stage.outs)


def _dispatch(state: State, stage: Stage) -> tuple[Array, ...]:
    match stage:
        case Compute():
            return run_compute(state, stage)
        case Scatter():
            return run_scatter(state, stage)
        case Scan():
            return run_scan(state, stage, run_program)
        case Cond():
            return run_cond(state, stage, run_program)
        case Sort():
            return run_sort(state, stage)
        case TopK():
            return run_topk(state, stage)
        case Kernel():
            return run_kernel(state, stage, _run_defines)
        case Opaque():
            return run_opaque(state, stage)


def _run_defines(state: State, stage: Kernel) -> None:
    for part in stage.defines:
        run_stage(state, part)
