"""Memory budgets as users write them."""

from __future__ import annotations

import math
import re
from typing import Final

from tpopt.errors import UsageError

UNITS: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
SPELLING: Final = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]+)\s*")


def bytes_of(budget: str | float, eager: int) -> int:
    """Bytes of ``"1.5GiB"``, of a fraction of eager's peak (a number up to 1), or of a number above 1.

    Raises :class:`UsageError` for anything else.
    """
    if isinstance(budget, str):
        spelled = SPELLING.fullmatch(budget)
        if spelled is None or spelled[2].lower() not in UNITS:
            raise UsageError(f"memory_budget {budget!r}: expected a number and one of B, KB, MB, GB, KiB, MiB, GiB")
        return math.floor(float(spelled[1]) * UNITS[spelled[2].lower()])
    if not math.isfinite(budget) or budget <= 0:
        raise UsageError(f"memory_budget {budget!r}: expected '1.5GiB', a part of eager's peak (0 to 1), or bytes")
    return math.floor(budget * eager if budget <= 1 else budget)


def shown(size: float) -> str:
    """A size for people."""
    return f"{size / 2**20:,.2f} MiB"
