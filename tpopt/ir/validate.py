"""Well-formedness of a Program: single assignment, definition before use, unique names, known iterators."""

from __future__ import annotations

from tpopt.errors import InvalidProgram
from tpopt.ir.index import Iter, walk_atoms
from tpopt.ir.program import Program
from tpopt.ir.stages import Compute, Kernel, Scatter, Stage
from tpopt.ir.terms import Reduce, Scalar, Tensor
from tpopt.ir.walk import own_indices, postorder, stage_reads


def validate(program: Program) -> None:
    """Raises :class:`InvalidProgram` naming the stage and the tensor at fault."""
    defined: dict[str, Tensor] = {}
    for tensor in (*program.inputs, *program.weights):
        _define(defined, tensor)
    for stage in program.stages:
        check_stage(stage, defined)
    for out in program.outputs:
        if defined.get(out.name) is not out:
            raise InvalidProgram(f"output {out!r} is not defined by any stage, input or weight")
    for alias in program.aliases:
        if not 0 <= alias.output < len(program.outputs) or alias.target not in defined:
            raise InvalidProgram(f"alias of output {alias.output} to {alias.target!r}: no such output or tensor")


def check_stage(stage: Stage, defined: dict[str, Tensor]) -> None:
    """Checks one stage against the tensors defined before it, then adds its outputs to ``defined``."""
    for tensor in stage_reads(stage):
        if defined.get(tensor.name) is not tensor:
            known = defined.get(tensor.name)
            why = "is not defined before it" if known is None else f"is defined as {known!r}"
            raise InvalidProgram(f"stage {_name(stage)} reads {tensor!r}, which {why}")
    if isinstance(stage, Compute):
        for body in stage.bodies:
            _check_iters(body, stage.loops, _name(stage))
    elif isinstance(stage, Scatter):
        _check_iters(stage.value, stage.loops, _name(stage))
    elif isinstance(stage, Kernel):
        inner = {t.name: t for t in stage.reads}
        for part in stage.defines:
            check_stage(part, inner)
        missing = [o.name for o in stage.outs if inner.get(o.name) is not o]
        if missing and stage.defines:
            raise InvalidProgram(f"kernel {_name(stage)}: its algebra does not define {', '.join(missing)}")
    for out in stage.outs:
        _define(defined, out)


def _check_iters(body: Scalar, loops: tuple[Iter, ...], name: str) -> None:
    terms = postorder(body)
    bound = {*loops, *(i for t in terms if isinstance(t, Reduce) for i in t.iters)}
    if len({i.name for i in bound}) != len(bound):
        raise InvalidProgram(f"stage {name}: two of its iterators share a name: {sorted(repr(i) for i in bound)}")
    for term in terms:
        for where in own_indices(term):
            for atom in walk_atoms(where):
                if isinstance(atom, Iter) and atom not in bound:
                    raise InvalidProgram(f"stage {name}: iterator {atom!r} is not bound by a loop or a reduction")


def _define(defined: dict[str, Tensor], tensor: Tensor) -> None:
    if tensor.name in defined:
        raise InvalidProgram(f"tensor {tensor.name} is defined twice")
    defined[tensor.name] = tensor


def _name(stage: Stage) -> str:
    return ", ".join(o.name for o in stage.outs)
