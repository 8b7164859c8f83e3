"""Random programs: every kind of stage and term, with inputs, and the same function written in torch by other means."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from programs import algebra, control, nested, pointwise, views
from programs.maker import FLOATS, INTEGERS, Made, Maker
from tpopt.ir import Alias, DType, Program, Symbol

__all__ = ["Made", "random_program"]

PARTS: tuple[tuple[Callable[[Maker], None], int], ...] = (
    (pointwise.pointwise, 9),
    (pointwise.convert, 2),
    (algebra.reduction, 4),
    (algebra.wide_reduction, 2),
    (algebra.contraction, 3),
    (algebra.window, 2),
    (algebra.lookup, 2),
    (nested.nested, 3),
    (views.view, 5),
    (views.padded, 1),
    (views.concatenated, 1),
    (control.scatter, 2),
    (control.scan, 1),
    (control.cond, 1),
    (control.sort, 1),
    (control.top, 1),
    (control.kernel, 1),
    (control.opaque, 1),
    (control.widened, 1),
)
"""What a program is made of, and how often."""


def random_program(seed: int, stages: int = 6) -> Made:
    """The program of that seed: about so many stages, its inputs, and its torch reference."""
    rng = random.Random(seed)
    symbols = {Symbol("s0", 1, 8): rng.randint(1, 4)} if rng.random() < 0.5 else {}
    if symbols and rng.random() < 0.4:
        symbols[Symbol("s1", 1, None)] = rng.randint(1, 5)
    m = Maker(seed, symbols)
    for symbol in symbols:
        m.floats((symbol, rng.choice((1, 2, 3))), DType.F32)
    m.floats(m.shape(rng.choice((1, 2, 3))), DType.F32)
    m.floats(m.shape(), rng.choice(FLOATS))
    m.integers(m.shape(), 0, 6, rng.choice(INTEGERS))
    if rng.random() < 0.3:
        m.floats(m.shape(), rng.choice((DType.C64, DType.C128)))
    parts, weights = zip(*PARTS, strict=True)
    while len(m.run) < stages:
        rng.choices(parts, weights)[0](m)
    return Made(_program(m, rng), tuple(m.inputs.values()), tuple(m.run))


def _program(m: Maker, rng: random.Random) -> Program:
    made = [v.tensor for v in m.values if v.tensor not in m.inputs and v.tensor not in m.weights]
    read = Program("p", tuple(m.inputs), tuple(m.weights), tuple(m.builder.stages), ()).consumers
    outputs = [t for t in made if t not in read or rng.random() < 0.3]
    alias = [
        Alias(n, i.name)
        for n, out in enumerate(outputs)
        for i in m.inputs
        if (i.shape, i.dtype) == (out.shape, out.dtype) and rng.random() < 0.05
    ]
    program = Program(
        f"random{m.seed}",
        tuple(m.inputs),
        tuple(m.weights),
        tuple(m.builder.stages),
        tuple(outputs),
        tuple(alias[:1]),
        tuple(m.symbols),
    )
    constants = MappingProxyType({t.name: a for t, a in m.weights.items()})
    return replace(program, constants=constants).validate()
