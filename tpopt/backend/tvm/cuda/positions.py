"""From the number of a point to where loops stand."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import Code, Number
from tpopt.backend.tvm.joined import apart
from tpopt.backend.tvm.places import Line
from tpopt.ir import Iter


def positions(code: Code, loops: Sequence[Iter], number: Number) -> dict[Iter, Line]:
    """Where loops stand at a point, by its number; the last one runs fastest."""
    return dict(zip(loops, map(Line.of, apart(code, number, [extent(i) for i in loops])), strict=True))
