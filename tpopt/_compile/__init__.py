"""``tpopt.compile``: trace, clean up, choose, verify, race the original, report."""

from __future__ import annotations

from tpopt._compile.door import compile  # noqa: A004 - the public name

__all__ = ["compile"]
