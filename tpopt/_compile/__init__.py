"""``tpopt.compile``: trace, clean up, choose, verify, race the original, report."""

from __future__ import annotations

from tpopt._compile.door import compile

__all__ = ["compile"]
