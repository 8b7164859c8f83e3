"""The reference semantics of a Program: :func:`interpret`, and the engine that the exact interpreter shares."""

from __future__ import annotations

from tpopt.ir.interpret.run import interpret

__all__ = ["interpret"]
