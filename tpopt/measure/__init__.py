"""Timing that can be believed: contestants interleaved in one process, medians with intervals."""

from __future__ import annotations

from tpopt.measure.timing import MIN_ROUNDS, Call, Ratio, Stopwatch, Timings, bootstrap_median, interleave, turn_order

__all__ = ["MIN_ROUNDS", "Call", "Ratio", "Stopwatch", "Timings", "bootstrap_median", "interleave", "turn_order"]
