"""Passes as values: a frozen dataclass whose fields are its options, and the pipeline that runs a tuple of them.

Printing, timing, tracing and bisecting are callbacks of the pipeline, never code of a pass.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from tpopt.errors import InvalidProgram
from tpopt.ir import Program
from tpopt.rewrite.numerics import Numerics
from tpopt.rewrite.trace import Trace


@dataclass(frozen=True)
class Pass(ABC):
    """Rewrites a Program. A subclass is a frozen dataclass with a class-level ``name``; each field is an option.

    The contract, which :class:`Pipeline` checks after each run: the result is a valid program with the same inputs,
    outputs, aliases and symbols, and a tensor that both programs have means the same value in both (its type too).
    ``numerics`` is the largest label among the rewrites that the pass makes. ``bargain`` says that the program without
    the pass may be the faster one, so that both forms stay on offer (see :func:`tpopt.rewrite.forms`).
    """

    name: ClassVar[str]
    numerics: ClassVar[Numerics] = Numerics.EXACT
    bargain: ClassVar[bool] = False

    @abstractmethod
    def run(self, program: Program, trace: Trace) -> Program:
        """The rewritten program, or ``program`` itself when there is nothing to do; decisions go to the trace."""

    def alternatives(self, program: Program, trace: Trace) -> tuple[Program, ...]:
        """Further forms of a program, in which tensors have other definitions; only a price can say which is best."""
        return ()

    def __str__(self) -> str:
        from tpopt.rewrite.spelling import spell

        return spell(self)


@dataclass(frozen=True)
class Step:
    """What a callback sees: the pass, the program before and after it, and the seconds it took."""

    what: Pass
    before: Program
    after: Program
    seconds: float


Callback: TypeAlias = Callable[[Step], None]


@dataclass(frozen=True)
class Pipeline:
    """Passes in order, with callbacks that are called after each."""

    passes: tuple[Pass, ...]
    callbacks: tuple[Callback, ...] = ()

    def run(self, program: Program, trace: Trace | None = None) -> Program:
        """The program after all passes. Raises :class:`InvalidProgram` naming the pass that broke the contract."""
        record = trace if trace is not None else Trace()
        for what in self.passes:
            start = time.perf_counter()
            with record.within(what.name):
                after = what.run(program, record)
            seconds = time.perf_counter() - start
            if after is not program:
                check_contract(what, program, after)
            step = Step(what, program, after, seconds)
            for callback in self.callbacks:
                callback(step)
            program = after
        return program

    def with_callbacks(self, *callbacks: Callback) -> Pipeline:
        """The same passes, with more callbacks."""
        return Pipeline(self.passes, (*self.callbacks, *callbacks))

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))


def check_contract(what: Pass, before: Program, after: Program) -> None:
    """Checks what a pass promises. Raises :class:`InvalidProgram` naming the pass and the tensor at fault."""
    try:
        after.validate()
    except InvalidProgram as error:
        raise InvalidProgram(f"pass {what.name} made an invalid program: {error}") from error
    for kind in ("inputs", "outputs", "aliases", "symbols"):
        if getattr(before, kind) != getattr(after, kind):
            raise InvalidProgram(f"pass {what.name} changed the program's {kind}; they are its signature")
    old = before.tensors
    for name, tensor in after.tensors.items():
        if old.get(name, tensor) is not tensor:
            raise InvalidProgram(f"pass {what.name} gave the name {name} to {tensor!r}; it stands for {old[name]!r}")
    kept = {w.name for w in before.weights}
    for weight in after.weights:
        name = weight.name
        if name in kept and before.constants.get(name) is not after.constants.get(name):
            raise InvalidProgram(f"pass {what.name} changed the value of weight {name}; a new value needs a new name")
