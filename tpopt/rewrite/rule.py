"""What a rewrite rule is: a law with a pattern, a check that may refuse with a reason, and a rewrite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from tpopt.ir import Scalar, Stage
from tpopt.rewrite.numerics import Numerics

Node = TypeVar("Node")
Result = TypeVar("Result")


class Match:
    """What a pattern found, by name: ``Match(x=term).x``."""

    __slots__ = ("_found",)

    def __init__(self, **found: Any) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        try:
            return self._found[name]
        except KeyError:
            raise AttributeError(
                f"the pattern captured no {name!r}, only {', '.join(self._found) or 'nothing'}"
            ) from None

    def __repr__(self) -> str:
        return f"Match({', '.join(f'{k}={v!r}' for k, v in self._found.items())})"


@dataclass(frozen=True)
class Refusal:
    """Why a rule or pass that matched does not apply here: a clause that a user can read."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Rule(ABC, Generic[Node, Result]):
    """A law whose name is the class's name. Subclasses are frozen dataclasses without state.

    ``pattern`` recognises a node (``None``: nothing to say about it), ``check`` refuses with a reason or returns
    ``None``, ``rewrite`` builds what stands for the node. ``heads`` are the node types that the pattern can match: for
    others the driver does not ask.
    """

    numerics: ClassVar[Numerics] = Numerics.EXACT
    heads: ClassVar[tuple[type, ...]] = (object,)

    @property
    def name(self) -> str:
        """The law's name."""
        return type(self).__name__

    @abstractmethod
    def pattern(self, node: Node) -> Match | None:
        """What to rewrite, or ``None`` where the law does not speak of this node."""

    def check(self, match: Match) -> Refusal | None:
        """Why the law does not hold, or does not pay, here; ``None`` admits the rewrite."""
        return None

    @abstractmethod
    def rewrite(self, match: Match) -> Result:
        """What stands for the matched node."""


class TermRule(Rule[Scalar, Scalar]):
    """A law about scalar terms: the result has the node's dtype and, within ``numerics``, its value."""


class StageRule(Rule[Stage, tuple[Stage, ...]]):
    """A law about stages: the results define the same outputs, in order, from tensors defined before."""
