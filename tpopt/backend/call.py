"""One bound call of a plan: a Python callable and its arguments, some of them values of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Ref:
    """A value of the plan by name, wherever it stands among the arguments."""

    name: str


class Destinations(Protocol):
    """The form of a kernel that writes into tensors it is given, whatever their number."""

    def prepare(self) -> None:
        """Does what the first call would do for dense arguments. Raises :class:`KernelBuildFailed`."""

    def fresh(self) -> list[Callable[[], Any]]:
        """For each result a function that allocates a tensor for it."""

    def at(self, args: Sequence[Any]) -> Callable[..., None]:
        """The function of arguments laid out as these are: it takes them, then the tensors to write into."""


@dataclass(frozen=True)
class Call:
    """``outs = function(*args, **kwargs)``, ready to run.

    ``args`` may nest lists that hold :class:`Ref`. ``outs`` name the tensors of the flattened result; ``single`` says
    that the function returns one tensor and not a sequence. ``out_function`` has the same arguments plus ``out=`` and
    may be used in its place where it was seen to write there without allocating. A kernel with ``into`` writes all its
    results, dense in the layouts of their allocators, where it is told, and needs no such test.
    """

    label: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    outs: tuple[str, ...]
    single: bool = True
    out_function: Callable[..., Any] | None = None
    into: Destinations | None = None

    def refs(self) -> tuple[str, ...]:
        """Names of the values it reads, in order, each once."""
        return tuple(dict.fromkeys(_refs((*self.args, *(v for _, v in self.kwargs)))))

    def fill(self, values: Callable[[str], Any]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments with every :class:`Ref` replaced."""
        return [_fill(a, values) for a in self.args], {k: _fill(v, values) for k, v in self.kwargs}


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _refs(item)


def _fill(value: Any, values: Callable[[str], Any]) -> Any:
    if isinstance(value, Ref):
        return values(value.name)
    return [_fill(v, values) for v in value] if isinstance(value, (list, tuple)) else value
