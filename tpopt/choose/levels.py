"""Prices that noise cannot turn around: a fused epilogue costs what measurement can tell it to cost, and no more.

An activation or an addition that a kernel applies to its result on the way out costs next to nothing, and two timings
of the same kernel differ by a percent or two. Without this, the smaller of two noisy figures decides, and a model ends
up with a separate ``relu`` here and there for no reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from tpopt.choose.candidate import Candidate, Price, Value
from tpopt.ir import Kernel

NOISE: Final = 1.05
"""What noise can do to the median of a few timings; more than that is the epilogue's (an exact gelu, say)."""


def level(candidates: Sequence[Candidate], prices: Mapping[str, Price]) -> dict[str, Price]:
    """Prices by key. A kernel with an epilogue costs what it costs without, unless their intervals lie apart."""
    plain: dict[tuple[str, str, Value], Price] = {}
    for candidate in candidates:
        place = _place(candidate)
        if place is not None and len(candidate.covers) == 1 and candidate.key in prices:
            plain.setdefault(place, prices[candidate.key])
    levelled = dict(prices)
    for candidate in candidates:
        place = _place(candidate)
        base = plain.get(place) if place is not None else None
        own = prices.get(candidate.key)
        if base is not None and own is not None and len(candidate.covers) > 1 and _overlap(own, base):
            levelled[candidate.key] = replace(own, us=min(own.us, base.us))
    return levelled


def _place(candidate: Candidate) -> tuple[str, str, Value] | None:
    """The kernel that an epilogue rides on: what it is, what it computes first, and what it reads first."""
    if not isinstance(candidate.stage, Kernel) or not candidate.covers or not candidate.needs:
        return None
    return candidate.stage.implementation, candidate.covers[0], candidate.needs[0]


def _overlap(own: Price, base: Price) -> bool:
    if own.low is None or base.high is None:
        return False
    return own.low <= base.high and own.us <= NOISE * base.us
