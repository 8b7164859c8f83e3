"""What a program from a file must show before anything of it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tpopt.errors import CorruptFile, InvalidProgram, ParseError, TpoptError, UnknownName
from tpopt.ir import Kernel, Opaque, Program, Stage
from tpopt.ir.in_bounds import unproved
from tpopt.ir.parse import parse_program
from tpopt.ir.stages import Cond, Scan

MAX_STAGES: Final = 1_000_000
MOST_AXES: Final = 64
MOST_BYTES: Final = 1 << 44
"""Of one tensor: more than any machine has, and few enough that no product of extents overflows."""


@cache
def operators() -> frozenset[str]:
    """The operators that a saved model may call: pure functions of tensors and numbers, without back doors."""
    return frozenset(Path(__file__).with_name("operators.txt").read_text(encoding="ascii").split())


def admit(text: str, where: str, implementations: Iterable[str] = (), *, known: bool = False) -> Program:
    """The program of a file, whose kernels may be ``implementations``; ``known`` ones were proved before.

    Raises:
        CorruptFile: it does not parse or is ill-formed; it calls an operator off the list, or a kernel that does not
            exist; an index is not proved to stay inside its tensor.
    """
    try:
        program = parse_program(text).validate()
    except (ParseError, InvalidProgram, UnknownName) as error:
        raise CorruptFile(f"{where} is no program: {str(error).splitlines()[0]}") from error
    except (TpoptError, RecursionError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise CorruptFile(f"{where} is no program: {type(error).__name__}: {error}") from error
    if known:
        return program
    kernels = frozenset(implementations)
    for stage in all_stages(program.stages):
        if isinstance(stage, Opaque) and stage.target not in operators():
            raise CorruptFile(f"{where} calls {stage.target}, which is not among the operators that a file may call")
        if isinstance(stage, Kernel) and stage.implementation not in kernels:
            raise CorruptFile(f"{where} runs a kernel {stage.implementation!r}, which this tpopt does not have")
    _check_sizes(program, where)
    try:
        leaving = unproved(program)
    except (RecursionError, ArithmeticError, TpoptError) as error:
        raise CorruptFile(f"{where}: an index has no range: {error}") from error
    if leaving is not None:
        raise CorruptFile(f"{where}: {leaving}")
    return program


def all_stages(stages: tuple[Stage, ...]) -> Iterator[Stage]:
    """The stages, and those inside of kernels, scans and conditions."""
    pending = list(stages)
    while pending:
        stage = pending.pop()
        yield stage
        if isinstance(stage, Kernel):
            pending += stage.defines
        elif isinstance(stage, Scan):
            pending += stage.body.stages
        elif isinstance(stage, Cond):
            pending += (*stage.then.stages, *stage.otherwise.stages)


def _check_sizes(program: Program, where: str) -> None:
    if len(program.stages) > MAX_STAGES:
        raise CorruptFile(f"{where} has {len(program.stages)} stages: at most {MAX_STAGES} are read")
    for stage in all_stages(program.stages):
        for tensor in stage.outs:
            _check_tensor(tensor.name, tensor.shape, tensor.dtype.itemsize, where)
    for tensor in (*program.inputs, *program.weights):
        _check_tensor(tensor.name, tensor.shape, tensor.dtype.itemsize, where)


def _check_tensor(name: str, shape: tuple[object, ...], itemsize: int, where: str) -> None:
    if len(shape) > MOST_AXES:
        raise CorruptFile(f"{where}: {name} has {len(shape)} axes: at most {MOST_AXES} are read")
    total = itemsize
    for extent in shape:
        if isinstance(extent, int):
            if extent < 0:
                raise CorruptFile(f"{where}: {name} has an extent of {extent}")
            total *= extent
    if total > MOST_BYTES:
        raise CorruptFile(f"{where}: {name} has {total} bytes: at most {MOST_BYTES} are read")
