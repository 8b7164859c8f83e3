"""What a user may ask of one compilation, as one value that is valid by construction."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, Self, TypeGuard, get_args

from tpopt.budget import Budget
from tpopt.errors import UnknownName, UsageError

Effort = Literal["fast", "balanced", "max"]
Choice = Literal["measured", "model"]
Kernels = Literal["all", "library", "generated"]
Progress = Callable[[str, float], None]
"""Called with the name of a stage and how much of the whole compilation is done, from 0 to 1."""

EFFORT_SECONDS: Final[Mapping[str, float]] = {"fast": 60.0, "balanced": 120.0, "max": 600.0}
"""Wall-clock seconds that a named effort allows for everything a compilation does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Options of :func:`tpopt.compile`; a value of a wrong kind or range raises :class:`~tpopt.errors.UsageError`.

    Attributes:
        effort: one budget for the whole compilation: ``"fast"`` (60 s), ``"balanced"`` (120 s), ``"max"`` (600 s), or
            a number of seconds.
        choice: ``"measured"`` times the best candidates; ``"model"`` decides by cost models alone: the same every time.
        kernels: which may be used: ``"all"``, ``"library"`` (none are generated), or ``"generated"`` (whatever can be
            generated is; the original operator is left where it cannot).
        verify: check the optimized program against the original before handing it out.
        gate: time the finished callable against the original, and return the original when it is not faster.
        strict: keep IEEE behaviour for non-finite values.
        tolerance: relative L2 error against float64 that a rule which amplifies rounding may reach.
        pipeline: the passes to run: a name, or ``"pass,pass{field=value}"``.
        cost_model: which predicts times: ``"roofline"``, or one that a package adds.
        records: file of measurements to read and extend; None is the cache of this user.
        budget: accuracy, bytes or time that may be spent, as :class:`~tpopt.budget.Budget` or as text,
            ``"error<=2e-2"``; without one, the result is as exact as the model itself.
        exclude: names of modules (``"encoder.*"``) whose operators stay as they are.
        seed: seed of every random input that verification and measurement draw.
        progress: called as ``progress(stage, fraction)`` from time to time.
    """

    effort: Effort | float = "balanced"
    choice: Choice = "measured"
    kernels: Kernels = "all"
    verify: bool = True
    gate: bool = True
    strict: bool = False
    tolerance: float = 1e-5
    pipeline: str = "default"
    cost_model: str = "roofline"
    records: str | Path | None = None
    budget: Budget | str | None = None
    exclude: tuple[str, ...] = ()
    seed: int = 0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Checks every field; a list given for ``exclude`` becomes a tuple."""
        _check_effort(self.effort)
        if self.choice not in get_args(Choice):
            raise UsageError(f"choice={self.choice!r}: expected {_one_of(get_args(Choice))}")
        if self.kernels not in get_args(Kernels):
            raise UsageError(f"kernels={self.kernels!r}: expected {_one_of(get_args(Kernels))}")
        for name in ("verify", "gate", "strict"):
            _check_kind(name, getattr(self, name), bool, "True or False")
        if not _is_number(self.tolerance) or not 0 < self.tolerance < math.inf:
            raise UsageError(f"tolerance={self.tolerance!r}: expected a finite relative error above 0, such as 1e-5")
        _check_kind("pipeline", self.pipeline, str, 'a pipeline, or passes such as "fold-constants,dead-code"')
        _check_kind("cost_model", self.cost_model, str, 'the name of a cost model, such as "roofline"')
        if self.records is not None:
            _check_kind("records", self.records, (str, Path), "a path, or None for the cache of this user")
        if isinstance(self.budget, str):
            object.__setattr__(self, "budget", Budget.parse(self.budget))
        _check_kind("budget", self.budget, (Budget, NoneType), 'a tpopt.Budget, or text such as "error<=2e-2"')
        object.__setattr__(self, "exclude", _patterns(self.exclude))
        if type(self.seed) is not int or self.seed < 0:
            raise UsageError(f"seed={self.seed!r}: expected an integer of at least 0")
        if self.progress is not None and not _takes_two(self.progress):
            raise UsageError(f"progress={self.progress!r}: expected a function of (stage, fraction), or None")

    @classmethod
    def of(cls, base: Self | None, overrides: Mapping[str, Any]) -> Self:
        """Returns ``base`` (the defaults when None) with some fields replaced by name.

        Raises:
            UnknownName: an override that is no field of Options.
            UsageError: a value of a wrong kind or range.
        """
        if base is not None and not isinstance(base, cls):
            raise UsageError(f"options={base!r}: expected tpopt.Options, or pass its fields by name")
        names = [field.name for field in dataclasses.fields(cls)]
        for name in overrides:
            if name not in names:
                raise UnknownName("option", name, names)
        return dataclasses.replace(base or cls(), **overrides)

    @property
    def spending(self) -> Budget:
        """The budget; the one that allows nothing where there is none."""
        return self.budget if isinstance(self.budget, Budget) else Budget()

    def effort_seconds(self) -> float:
        """Returns the effort as wall-clock seconds for the whole compilation."""
        return EFFORT_SECONDS[self.effort] if isinstance(self.effort, str) else float(self.effort)


def _check_effort(effort: object) -> None:
    if isinstance(effort, str) and effort in EFFORT_SECONDS:
        return
    if _is_number(effort) and 0 < effort < math.inf:
        return
    raise UsageError(f"effort={effort!r}: expected {_one_of(EFFORT_SECONDS)}, or a finite number of seconds above 0")


def _check_kind(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(value, kind):
        raise UsageError(f"{name}={value!r}: expected {expected}")


def _takes_two(function: object) -> bool:
    """Whether it can be called with a stage and a fraction, as far as can be told."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind("", 0.0)
    except TypeError:
        return False
    except ValueError:  # it is written in C, and has no signature
        return True
    return True


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _patterns(exclude: object) -> tuple[str, ...]:
    patterns = tuple(exclude) if isinstance(exclude, (list, tuple)) else None
    if patterns is None or not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(f'exclude={exclude!r}: expected a tuple of module names, such as ("encoder.*",)')
    return patterns


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in names)
