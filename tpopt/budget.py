"""What a user may spend: accuracy, bytes and time, as one value that is valid by construction."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

from tpopt.errors import UnknownName, UsageError

Metric: TypeAlias = Callable[[Callable[..., Any], Iterable[Any]], float]
"""Takes a callable in place of the model, and the validation data; returns the figure that must not drop."""

_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
)
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)")
_TERM: Final = re.compile(r"\s*([a-z_]+)\s*<=\s*([^\s,]+)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a compiled model may cost; whatever is None is free, and no accuracy may be spent unless one is named.

    The fastest program inside is chosen; with ``latency_ms`` and nothing else to save, the smallest one. Every bound
    is checked on the finished program, by running it. A value of a wrong kind or range raises
    :class:`~tpopt.errors.UsageError`.

    Attributes:
        max_error: relative L2 error against float64 that each output may have, such as ``2e-2``.
        max_drop: how much worse ``metric`` may be on the validation data than the original's, in its own unit.
        metric: ``metric(callable, validation)`` returns the figure; the default is the share of rows whose largest
            output is at the label (or, where the data has no labels, where the original has it).
        higher_is_better: whether a larger figure of ``metric`` is better.
        weights_bytes: bytes of all constants of the program: a number, ``"64MiB"``, or ``"0.5x"`` of the original's.
        peak_bytes: bytes of all buffers that are alive at once, in the same forms.
        latency_ms: milliseconds that one call on the example inputs may take.
    """

    max_error: float | None = None
    max_drop: float | None = None
    metric: Metric | None = None
    higher_is_better: bool = True
    weights_bytes: float | str | None = None
    peak_bytes: float | str | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        """Checks every field."""
        for name in ("max_error", "max_drop", "latency_ms"):
            _positive(name, getattr(self, name), zero=name == "max_drop")
        for name in ("weights_bytes", "peak_bytes"):
            if getattr(self, name) is not None:
                bytes_of(name, getattr(self, name), 1)
        if self.metric is not None and not callable(self.metric):
            raise UsageError(f"budget: metric={self.metric!r}: expected a function of (callable, validation data)")
        if self.metric is not None and self.max_drop is None:
            raise UsageError("budget: metric= without max_drop=: say how far the figure may drop")
        if not isinstance(self.higher_is_better, bool):
            raise UsageError(f"budget: higher_is_better={self.higher_is_better!r}: expected True or False")

    @property
    def approximates(self) -> bool:
        """Whether results may differ by more than rounding: where accuracy is bounded, or less memory is asked for."""
        return any(v is not None for v in (self.max_error, self.max_drop, self.weights_bytes, self.peak_bytes))

    def limit(self, name: str, original: float) -> float | None:
        """Bytes that ``weights_bytes`` or ``peak_bytes`` allow a program whose original takes ``original``."""
        value = getattr(self, name)
        return None if value is None else bytes_of(name, value, original)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``"error<=2e-2,drop<=0.01,weights<=0.5x,peak<=64MiB,latency<=3ms"``, in any order.

        Raises:
            UnknownName: a bound that does not exist; UsageError for a value that does not parse.
        """
        found: dict[str, Any] = {}
        for part in text.split(","):
            match = _TERM.fullmatch(part)
            if match is None:
                raise UsageError(f'budget {text!r}: {part!r} is no bound; write "error<=2e-2,weights<=0.5x"')
            name, value = match.groups()
            if name not in _NAMES:
                raise UnknownName("budget", name, _NAMES)
            if _NAMES[name] in found:
                raise UsageError(f"budget {text!r}: {name} appears twice")
            found[_NAMES[name]] = value if name in ("weights", "peak") else _number(name, value)
        return cls(**found)

    def __str__(self) -> str:
        shown = {name: getattr(self, field) for name, field in _NAMES.items()}
        return ",".join(f"{n}<={v}" for n, v in shown.items() if v is not None) or "exact"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them; a metric by its name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["metric"] = None if self.metric is None else getattr(self.metric, "__name__", repr(self.metric))
        return values


_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "error": "max_error", "drop": "max_drop", "weights": "weights_bytes", "peak": "peak_bytes",
        "latency": "latency_ms",
    }
)  # fmt: skip


def bytes_of(name: str, value: object, original: float) -> float:
    """Bytes from a number, ``"64MiB"``, or ``"0.5x"`` of ``original``. Raises :class:`UsageError` naming ``name``."""
    problem = UsageError(
        f'budget: {name}={value!r}: expected bytes above 0, as 5e6, "64MiB", or "0.5x" of the original'
    )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        amount, unit = float(value), ""
    elif isinstance(value, str) and (match := _AMOUNT.fullmatch(value.strip())) is not None:
        amount, unit = float(match.group(1)), match.group(2)
    else:
        raise problem
    if not 0 < amount < math.inf or (unit != "x" and unit not in _UNITS):
        raise problem
    return amount * (original if unit == "x" else _UNITS[unit])


def _number(name: str, text: str) -> float:
    unit = "ms" if name == "latency" else ""
    try:
        return float(text.removesuffix(unit))
    except ValueError:
        raise UsageError(f"budget: {name}<={text}: expected a number{f' of {unit}' if unit else ''}") from None


def _positive(name: str, value: object, *, zero: bool) -> None:
    if value is None:
        return
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not (0 <= value < math.inf)
        or (value == 0 and not zero)
    ):
        raise UsageError(f"budget: {name}={value!r}: expected a finite number {'of at least' if zero else 'above'} 0")
