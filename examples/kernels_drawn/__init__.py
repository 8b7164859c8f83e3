"""The kinds of ``examples/kernels`` on shapes from seeds: fifty of each kind.

``tpopt bench --suite kernels-drawn --models 'rows_*'`` runs those of one kind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from kernels.convolutions import convolution
from kernels.pointwise import FORMULAS as POINTWISE
from kernels.rows import FORMULAS as ROWS
from kernels.seeding import Example

SEEDS: Final = 50


def pointwise(seed: int) -> Example:
    """A chain over 16 thousand to 4 million elements."""
    draw = random.Random(f"pointwise {seed}")
    formula = draw.choice(POINTWISE)
    width = draw.choice((48, 64, 100, 128, 196, 256, 384, 512, 768))
    height = draw.randint(16, 256)
    outer = max(1, round(2 ** draw.uniform(14, 22)) // (width * height))
    return formula((1, outer, height, width))


def rows(seed: int) -> Example:
    """Rows of 17 to 8,192 elements, 16 thousand to 4 million in all."""
    draw = random.Random(f"rows {seed}")
    width = round(2 ** draw.uniform(4.1, 13))
    return draw.choice(ROWS)((max(1, round(2 ** draw.uniform(14, 22)) // width), width))


def convolutions(seed: int) -> Example:
    """A depthwise, grouped or dilated convolution on maps of 7 to 80 pixels a side."""
    draw = random.Random(f"convolutions {seed}")
    kernel = draw.choice((3, 3, 5, 7))
    size, batch = draw.randint(7, 80), draw.choice((1, 1, 2, 4))
    kind = draw.choice(("depthwise", "grouped", "dilated"))
    if kind == "depthwise":
        channels = 8 * draw.randint(2, 40)
        return convolution(batch, size, channels, channels, kernel, stride=draw.choice((1, 1, 2)), groups=channels)
    if kind == "grouped":
        groups, each = draw.choice((2, 4, 8, 16, 32)), draw.choice((4, 8, 12, 16))
        return convolution(batch, size, groups * each, groups * each, 3, stride=draw.choice((1, 2)), groups=groups)
    channels = 8 * draw.randint(2, 24)
    return convolution(1, size, channels, 8 * draw.randint(2, 24), 3, dilation=draw.choice((2, 3, 4)))


ZOO: Final[Mapping[str, Callable[[], Example]]] = {
    f"{draw.__name__}_{seed}": partial(draw, seed) for draw in (pointwise, rows, convolutions) for seed in range(SEEDS)
}
"""Each case by name: a function that builds the module and the positional inputs of one call."""
