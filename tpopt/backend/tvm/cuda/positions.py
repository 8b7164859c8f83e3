"""From the number of a point to where loops stand."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import INDEX, Code, Number, scalar
from tpopt.backend.tvm.places import Line
from tpopt.ir import Iter


def positions(code: Code, loops: Sequence[Iter], number: Number) -> dict[Iter, Line]:
    """Where loops stand at a point, by its number (never negative); the last one runs fastest."""
    found: dict[Iter, Line] = {i: Line.of(0) for i in loops}
    wide = [i for i in loops if extent(i) > 1]
    rest = number
    for iterator in reversed(wide[1:]):
        rest, own = split(code, rest, extent(iterator))
        found[iterator] = Line.of(own)
    if wide:
        found[wide[0]] = Line.of(rest if isinstance(rest, int) else code.bind(rest))
    return found


def split(code: Code, number: Number, size: int) -> tuple[Number, Number]:
    """A number divided by a size: the quotient, and what is left."""
    if isinstance(number, int):
        return divmod(number, size)
    if size == 1:
        return number, 0
    number = code.bind(number)
    if size & (size - 1) == 0:
        quotient = tirx.shift_right(number, scalar(size.bit_length() - 1))
        return code.bind(quotient), code.bind(tirx.bitwise_and(number, scalar(size - 1)))
    quotient = code.bind(tirx.Div(number, tirx.const(size, INDEX)))
    return quotient, code.bind(number - quotient * tirx.const(size, INDEX))
