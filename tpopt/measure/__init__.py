"""Timing that can be believed: contestants interleaved in one process, medians with intervals."""

from __future__ import annotations

from tpopt.measure.interleave import Interval, Samples, interleave, median_interval, ratio_interval

__all__ = ["Interval", "Samples", "interleave", "median_interval", "ratio_interval"]
