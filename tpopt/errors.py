"""Every error that tpopt raises on purpose, and the exit code that the command line turns it into.

::

    TpoptError                                  1
    ├── UsageError            (ValueError)      2   an argument, option or name is wrong
    │   ├── UnknownName       (LookupError)     2   a name that nobody registered; lists those that exist
    │   └── ParseError                          2   program, pipeline or options text that does not parse
    ├── InvalidProgram        (ValueError)      1   a Program that breaks the grammar: a defect of its producer
    ├── UnsupportedModel      (TypeError)       3   a model that can run neither as algebra nor in torch
    ├── UnsupportedInput      (TypeError)       3   inputs that the model or the plan cannot take
    ├── GuardFailed           (RuntimeError)    3   the world changed since compilation: weights, grad mode, threads
    ├── VerificationFailed    (ArithmeticError) 4   the optimized program does not agree with the original
    ├── KernelUnsupported     (TypeError)       1   algebra that no generated kernel computes
    ├── KernelBuildFailed     (RuntimeError)    1   a generated kernel that could not be built or loaded
    ├── JobFailed             (RuntimeError)    1   work in a worker process or on a cluster that was given up
    ├── PerformanceRegression                   5   a comparison with a saved baseline got worse
    ├── CorruptFile           (ValueError)      6   a file that is damaged, forged, or not safe to open
    └── LimitExceeded         (RuntimeError)    7   a time, memory or size limit was reached

A second base, in parentheses, is the builtin kind that a caller who does not know tpopt would catch.
All of them survive pickling, so that a worker process can raise them in its parent.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TpoptError(Exception):
    """Root of the tree: ``except TpoptError`` catches whatever tpopt raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[object, tuple[type[Self], tuple[object, ...], Mapping[str, object]]]:
        """Pickles by state, because subclasses are not constructed from their message alone."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[TpoptError], args: tuple[object, ...], state: Mapping[str, object]) -> TpoptError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(TpoptError, ValueError):
    """An argument, an option or a command line is wrong; the message names it and says what is valid."""

    exit_code: ClassVar[int] = 2


class UnknownName(UsageError, LookupError):
    """A name of some ``kind`` (pass, option, model, peer, ...) that does not exist."""

    kind: str
    name: str
    valid: tuple[str, ...]

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        """Builds the message from the valid names, sorted, with the nearest one suggested first."""
        self.kind, self.name, self.valid = kind, name, tuple(sorted(valid))
        nearest = difflib.get_close_matches(name, self.valid, n=1)
        suggestion = f"; did you mean {nearest[0]!r}?" if nearest else "."
        listing = ", ".join(self.valid) or "(none)"
        super().__init__(f"unknown {kind} {name!r}{suggestion} Valid names: {listing}")


class ParseError(UsageError):
    """Text that does not parse; ``line`` and ``column`` count from 1."""

    line: int
    column: int

    def __init__(self, message: str, *, line: int, column: int, text: str | None = None) -> None:
        """Builds ``message (line L, column C)``; with ``text``, the whole source, the line follows with a caret."""
        self.line, self.column = line, column
        where = f"{message} (line {line}, column {column})"
        super().__init__(where if text is None else f"{where}\n{_pointed_at(text, line, column)}")


def _pointed_at(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    shown = lines[line - 1] if 1 <= line <= len(lines) else ""
    return f"  {shown}\n  {' ' * (column - 1)}^"


class InvalidProgram(TpoptError, ValueError):
    """A Program that breaks the grammar or a typing rule; whoever built it has a defect."""


class UnsupportedModel(TpoptError, TypeError):
    """A model that tpopt can run neither as algebra nor as operators kept whole."""

    exit_code: ClassVar[int] = 3


class UnsupportedInput(TpoptError, TypeError):
    """Inputs of a structure, dtype, device or shape that the model or the plan cannot take."""

    exit_code: ClassVar[int] = 3


class GuardFailed(TpoptError, RuntimeError):
    """What a plan was compiled for no longer holds: weights, grad mode, training flag, thread count, device."""

    exit_code: ClassVar[int] = 3


class VerificationFailed(TpoptError, ArithmeticError):
    """The optimized program and the original disagree beyond the tolerance."""

    exit_code: ClassVar[int] = 4


class KernelUnsupported(TpoptError, TypeError):
    """Algebra that has no generated kernel; the message says what stands in the way."""


class KernelBuildFailed(TpoptError, RuntimeError):
    """A generated kernel could not be built or loaded; the message says what failed and what to do."""


class JobFailed(TpoptError, RuntimeError):
    """A job of an executor raised, or crashed, hung or lost its worker too often; the message says which."""


class PerformanceRegression(TpoptError):
    """A figure is worse than in the baseline that it was compared with."""

    exit_code: ClassVar[int] = 5


class CorruptFile(TpoptError, ValueError):
    """A file that is damaged, forged, or would have to be trusted to be opened."""

    exit_code: ClassVar[int] = 6


class LimitExceeded(TpoptError, RuntimeError):
    """A limit of time, memory or size was reached; the message names the limit and how to raise it."""

    exit_code: ClassVar[int] = 7
