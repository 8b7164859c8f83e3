"""Loops that run as one: from the number of the whole to those of its parts."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from tpopt.backend.tvm.code import Code, Number, scalar


def apart(code: Code, number: Number, counts: Sequence[int]) -> list[Number]:
    """The number of each of several joined loops that run so often, outermost first; ``number`` is never negative."""
    found: list[Number] = [0] * len(counts)
    wide = [k for k, count in enumerate(counts) if count > 1]
    for k in reversed(wide[1:]):
        number, found[k] = split(code, number, counts[k])
    if wide:
        found[wide[0]] = number if isinstance(number, int) else code.bind(number)
    return found


def split(code: Code, number: Number, size: int) -> tuple[Number, Number]:
    """A number that is never negative divided by a size: the quotient, and what is left."""
    if isinstance(number, int):
        return divmod(number, size)
    if size == 1:
        return number, 0
    number = code.bind(number)
    if size & (size - 1) == 0:
        quotient = tirx.shift_right(number, scalar(size.bit_length() - 1))
        return code.bind(quotient), code.bind(tirx.bitwise_and(number, scalar(size - 1)))
    quotient = code.bind(tirx.Div(number, scalar(size)))
    return quotient, code.bind(number - quotient * scalar(size))
