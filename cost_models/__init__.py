"""The cost models: each file is one way to say how long a candidate takes and how many bytes it moves.

A cost model prices candidates for the chooser; see ``tpopt.protocols.CostModel``. What it needs from the machine
(measurements, kernel features) arrives through a protocol. This folder is imported as ``tpopt.cost_models``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpopt.cost_models.learned import LearnedRanker


def default_ranker() -> LearnedRanker | None:
    """The ranker that comes with tpopt; ``None`` where none does. Raises CorruptFile for one that is damaged."""
    from tpopt.cost_models.learned import LearnedRanker

    path = Path(__file__).parent / "default.safetensors"
    return LearnedRanker.load(path) if path.exists() else None
