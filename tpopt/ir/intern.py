"""Hash-consing: one object per distinct term, so equality is identity and hashing is constant time.

The table is weak (a term nobody holds disappears) and locked (several threads may compile at once). It is the
only module-level state of the project.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

_table: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()
_lock = threading.RLock()
_LITERALS = (bool, float, complex)


def _key_part(value: Any) -> Any:
    """Distinguishes what Python's ``==`` would merge: ``1``, ``1.0``, ``True``, ``0.0`` and ``-0.0``, and NaNs."""
    kind = type(value)
    if type(kind) is Interned or kind is str or kind is int:
        return value
    if kind is tuple:
        return tuple([_key_part(v) for v in value])
    if kind in _LITERALS:
        return (kind.__name__, repr(value))
    return getattr(value, "identity", value)


class Interned(type):
    """Metaclass of immutable terms: constructing equal terms twice returns the same object."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        candidate = super().__call__(*args, **kwargs)
        key = (cls, *[_key_part(getattr(candidate, f)) for f in cls.__match_args__])  # type: ignore[attr-defined]
        with _lock:
            return _table.setdefault(key, candidate)


class Term(metaclass=Interned):
    """Base of interned terms. Subclasses are ``@dataclass(frozen=True, eq=False)``; fields may not change."""

    __match_args__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return type(self), tuple(getattr(self, f) for f in self.__match_args__)

    def __copy__(self) -> Term:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Term:
        return self
