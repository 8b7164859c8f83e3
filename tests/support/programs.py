"""Small questions about stages."""

from __future__ import annotations

from tpopt.ir import Compute, Read


def permutations(stage: Compute) -> int:
    """1 for a stage that only moves elements."""
    return int(isinstance(stage.bodies[0], Read))
