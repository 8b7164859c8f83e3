"""Kernels of third parties: modules that installed packages name in the entry-point group ``tpopt.kernels``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

GROUP: Final = "tpopt.kernels"
_log = logging.getLogger("tpopt")


@dataclass(frozen=True)
class Provider:
    """A module with ``candidates(program, found)`` and ``BINDERS``, under the name of its entry point."""

    name: str
    value: str
    module: Any

    def __str__(self) -> str:
        return f"{GROUP}: {self.name} ({self.value})"


@cache
def providers() -> tuple[Provider, ...]:
    """The providers of this process, sorted by name."""
    return loaded(entry_points(group=GROUP))


def loaded(points: Iterable[EntryPoint]) -> tuple[Provider, ...]:
    """The modules of these entry points; one that does not load, or is no provider, is left out with a warning."""
    found = []
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        try:
            module = point.load()
        except Exception as error:  # noqa: BLE001 - somebody else's package may raise anything
            _log.warning("%s: %s (%s) does not load: %s", GROUP, point.name, point.value, error)
            continue
        if not (callable(getattr(module, "candidates", None)) and isinstance(getattr(module, "BINDERS", None), dict)):
            _log.warning("%s: %s (%s) has no candidates() and BINDERS", GROUP, point.name, point.value)
            continue
        found.append(Provider(point.name, point.value, module))
    return tuple(found)
