"""Verification of a plan against the original model and the float64 reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt


def verify_plan(attempt: Attempt, callable_: Any) -> None:
    """Raises :class:`VerificationFailed`; the figures go to the attempt."""
