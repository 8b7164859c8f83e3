"""Aligned text, the same on every terminal: fixed layout, no colours, control characters made visible."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

_WIDE: Final = 1_000_000
"""Columns that no table reaches, so that nothing is wrapped or cut to fit the terminal at hand."""


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Returns an aligned table, indented by two; columns named in ``right`` are flush right, the last is not padded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_edge=False)
    for name in headers:
        grid.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(plain(cell)) for cell in row))
    out = io.StringIO()
    Console(file=out, width=_WIDE, color_system=None, force_terminal=False, force_jupyter=False).print(grid)
    return "".join(f"  {line.rstrip()}\n" for line in out.getvalue().splitlines())


def plain(text: str) -> str:
    """Returns the text with everything unprintable, such as a terminal's escape sequences, written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def lines_of(source: Sequence[str]) -> str:
    """Returns the source lines of one row as one cell."""
    return "; ".join(source)


def number(value: float | None, digits: int = 0) -> str:
    """Returns a number with thousands separated, or ``-`` when it is not known."""
    return "-" if value is None else f"{value:,.{digits}f}"


def scientific(value: float | None) -> str:
    """Returns a small number such as an error as ``1.2e-07``, or ``-`` when it is not known."""
    return "-" if value is None else f"{value:.1e}"


def percent(share: float | None) -> str:
    """Returns a share of 1 as ``12.3 %``, or ``-`` when it is not known."""
    return "-" if share is None else f"{100 * share:.1f} %"


def interval(low: float | None, high: float | None, digits: int) -> str:
    """Returns ``[low, high]``, or nothing when there is no interval."""
    return "" if low is None or high is None else f"[{low:,.{digits}f}, {high:,.{digits}f}]"


def counted(count: int, singular: str) -> str:
    """Returns ``1 pass``, ``2 passes``, ``0 kernels``."""
    plural = f"{singular}es" if singular.endswith("s") else f"{singular}s"
    return f"{count:,} {singular if count == 1 else plural}"
