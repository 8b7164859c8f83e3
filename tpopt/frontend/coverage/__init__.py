"""Which ATen operators have algebra, checked against torch: :func:`coverage` is the door."""

from __future__ import annotations

from tpopt.frontend.coverage.survey import core_overloads, coverage
from tpopt.frontend.coverage.table import MOST_GROWTH, MOST_WORK, SIZES, Coverage, Row

__all__ = ["MOST_GROWTH", "MOST_WORK", "SIZES", "Coverage", "Row", "core_overloads", "coverage"]
