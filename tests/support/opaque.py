"""The opaque stages of a report as text, for goldens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def opaque_text(opaque: Iterable[Mapping[str, Any]]) -> str:
    """One line for each operator and reason: how often, which, why; ``none`` when every operator has algebra."""
    counts = Counter((entry["target"], entry["reason"]) for entry in opaque)
    lines = [f"{count} × {target}: {reason}" for (target, reason), count in sorted(counts.items())]
    return "\n".join(lines or ["none"]) + "\n"
