"""From a user's model to tensor algebra: :func:`trace` is the door."""

from __future__ import annotations

from tpopt.frontend.trace import Traced, trace

__all__ = ["Traced", "trace"]
