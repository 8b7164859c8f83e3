"""The record of a compilation's rewriting: what was tried, applied and refused, where and why.

A Trace is written by passes and rules and read by the report; it holds names and text only, so that it outlives the
programs it speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tpopt.rewrite.numerics import Numerics
from tpopt.rewrite.rule import Refusal

Kind = Literal["applied", "offered", "refused"]


@dataclass(frozen=True)
class Event:
    """One decision: ``what`` (the rule, or the pass itself) was applied at or refused at the tensors ``at``.

    What is offered stands beside the program and may be chosen later. ``detail`` is the reason of a refusal, or what
    the rewrite did. ``numerics`` labels what was applied or offered.
    """

    owner: str
    what: str
    kind: Kind
    at: tuple[str, ...] = ()
    detail: str = ""
    numerics: Numerics = Numerics.EXACT

    def __str__(self) -> str:
        where = f" at {', '.join(self.at)}" if self.at else ""
        return f"{self.owner}: {self.what} {self.kind}{where}" + (f": {self.detail}" if self.detail else "")


@dataclass
class Trace:
    """Events in order. The same refusal, met again in a later round, is one event."""

    events: list[Event] = field(default_factory=list)
    _owners: list[str] = field(default_factory=list)
    _current: str = "(none)"
    _refused: dict[Event, None] = field(default_factory=dict)
    _where: tuple[str, ...] = ()

    @contextmanager
    def within(self, owner: str) -> Iterator[Trace]:
        """Attributes the events of a ``with`` block to a pass, which is listed even when it does nothing."""
        before, self._current = self._current, owner
        if owner not in self._owners:
            self._owners.append(owner)
        try:
            yield self
        finally:
            self._current = before

    @contextmanager
    def at(self, names: Sequence[str]) -> Iterator[None]:
        """The tensors that rules inside the block concern, where they know of none."""
        before, self._where = self._where, tuple(names)
        try:
            yield
        finally:
            self._where = before

    def applied(self, what: str, at: Sequence[str] = (), detail: str = "", numerics: Numerics = Numerics.EXACT) -> None:
        """Records a rewrite that was made."""
        self.events.append(Event(self._current, what, "applied", tuple(at) or self._where, detail, numerics))

    def offered(self, what: str, at: Sequence[str] = (), detail: str = "", numerics: Numerics = Numerics.EXACT) -> None:
        """Records another form of a part, which leaves the program as it is."""
        self.events.append(Event(self._current, what, "offered", tuple(at) or self._where, detail, numerics))

    def refused(self, what: str, reason: Refusal | str, at: Sequence[str] = ()) -> None:
        """Records a rewrite that matched and was not made, with its reason."""
        event = Event(self._current, what, "refused", tuple(at) or self._where, str(reason))
        if event not in self._refused:
            self._refused[event] = None
            self.events.append(event)

    @property
    def numerics(self) -> Numerics:
        """The largest label among what was applied."""
        return max((e.numerics for e in self.events if e.kind == "applied"), default=Numerics.EXACT)

    def concerning(self, name: str) -> tuple[Event, ...]:
        """Events that name a tensor."""
        return tuple(e for e in self.events if name in e.at)

    def to_dict(self) -> list[dict[str, Any]]:
        """One row for each pass, in order: ``{name, applied, refused: [{reason, count}]}``."""
        return [self._row(owner) for owner in self._owners]

    def _row(self, owner: str) -> dict[str, Any]:
        own = [e for e in self.events if e.owner == owner]
        reasons: dict[str, int] = {}
        for event in own:
            if event.kind == "refused":
                reasons[event.detail] = reasons.get(event.detail, 0) + 1
        return {
            "name": owner,
            "applied": sum(e.kind != "refused" for e in own),
            "refused": [{"reason": reason, "count": count} for reason, count in reasons.items()],
        }
