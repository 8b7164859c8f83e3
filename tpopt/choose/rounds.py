"""Which generated kernels to build first: those of the covers that a cost model expects to be the fastest.

A model offers more kernels than there is time to build. The cover program, solved on expected prices, names those that
belong to the best plan; without them it names the next best ones, and so on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tpopt.backend.generated.binding import MATRIX
from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.candidate import Candidate, Candidates, Price
from tpopt.choose.choose import solved
from tpopt.errors import InvalidProgram
from tpopt.ir import Kernel, Program
from tpopt.rewrite.numerics import Numerics

ROUNDS: Final = 6
"""Covers asked for one after the other; what is in none of them is expected to lose."""
SECONDS_SHARE: Final = 0.1
"""Part of the time for building that finding the order may take."""
ON_THE_UNIT: Final = 0.4
"""Expected time of a kernel on the matrix unit as a share of what it takes without (measured 0.3 to 0.6)."""


def build_order(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    price: Callable[[Candidate], float],
    seconds: float,
) -> list[Candidate]:
    """All generated candidates, those first that the fastest covers are expected to have.

    Where approximate ones are among them, covers with these take turns with exact ones. ``price`` is in microseconds.
    """
    until = time.perf_counter() + SECONDS_SHARE * seconds
    made = list(filter(is_generated, found.admitted))
    prices = {c.key: Price(_expected(c, price)) for c in found.admitted}
    freedoms = dict.fromkeys(c.numerics is Numerics.APPROXIMATE for c in made)
    order: dict[Candidate, None] = {}
    for _ in range(ROUNDS):
        for approximate in sorted(freedoms, reverse=True):
            if time.perf_counter() < until:
                order.update(dict.fromkeys(_next(original, forms, found, prices, order, approximate=approximate)))
    rest = sorted((c for c in made if c not in order), key=price, reverse=True)
    return [*order, *rest]


def _expected(candidate: Candidate, price: Callable[[Candidate], float]) -> float:
    on_it = isinstance(candidate.stage, Kernel) and dict(candidate.stage.parameters).get(MATRIX)
    return price(candidate) * (ON_THE_UNIT if on_it else 1.0)


def _next(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    prices: Mapping[str, Price],
    taken: Mapping[Candidate, None],
    *,
    approximate: bool,
) -> list[Candidate]:
    """The generated kernels of the cheapest cover without those taken before; the dearest first."""
    known = {c.key for c in taken}
    left = replace(found, admitted=[c for c in found.admitted if not (is_generated(c) and c.key in known)])
    try:
        choice = solved(original, forms, left, dict(prices), approximate=approximate)
    except InvalidProgram:
        return []
    picked = [c for c in choice.solution.picked if is_generated(c)]
    return sorted(picked, key=lambda c: prices[c.key].us, reverse=True)
