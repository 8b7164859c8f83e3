"""Which ATen operators have algebra, checked against torch: :func:`coverage` is the door."""

from __future__ import annotations

from tpopt.frontend.coverage.survey import MOST_WORK, SIZES, Coverage, Row, core_overloads, coverage

__all__ = ["MOST_WORK", "SIZES", "Coverage", "Row", "core_overloads", "coverage"]
