"""Timing that can be believed: contestants interleaved in one process, medians with intervals."""

from __future__ import annotations

from tpopt.measure.timing import Call, Ratio, Stopwatch, Timings, bootstrap_median, interleave

__all__ = ["Call", "Ratio", "Stopwatch", "Timings", "bootstrap_median", "interleave"]
