"""``python -m fuzz FIRST LAST [option=value ...]`` from the folder of the tests: compiles the models of these seeds.

Prints each seed that disagrees, with the smallest recipe that does, and ends with 1 where there was one.
"""

from __future__ import annotations

import collections
import signal
import sys
import time

import torch
from fuzz.models import random_recipe
from fuzz.oracle import disagreement, reduced


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _stop(*_: object) -> None:
    raise SystemExit(3)


def main(first: int, last: int, options: dict[str, str]) -> int:
    torch.set_num_threads(1)
    failed, began = 0, time.perf_counter()
    used: collections.Counter[str] = collections.Counter()
    tried = 0
    signal.signal(signal.SIGTERM, _stop)
    try:
        for seed in range(first, last):
            recipe = random_recipe(seed)
            said = disagreement(recipe, **options)
            tried += 1
            used.update(s.name for s in recipe.steps)
            if said is not None:
                failed += 1
                small = reduced(recipe, **options)
                _say(f"seed {seed}: {said}\n  {small}\n  {disagreement(small, **options)}")
    finally:
        took = time.perf_counter() - began
        operators = f"{sum(used.values())} operators of {len(used)} kinds"
        _say(f"{tried} models from seed {first}, {operators}, {failed} disagree, {took:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), dict(a.split("=") for a in sys.argv[3:])))
