"""What each law of the derivation is good for: every expression with all of them, and with each switched off in turn.

    python examples/ablation.py [EXPRESSION ...]

The expressions are those of the suites ``derivations`` and ``structured``, and the models of the zoo. A number is the
expected time of the program given, over that of the best program derived: what the search maximizes, so nothing is
compiled or timed. A dot stands where the law made no difference.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import derivations
import structured
import zoo

from tpopt.frontend.trace import trace
from tpopt.ir import Program
from tpopt.passes.derive.derive import offered
from tpopt.passes.derive.explore import Explorer, law_names
from tpopt.rewrite import Pipeline, Trace, registry
from tpopt.rewrite.stages import constant_tensors

NAMES = tuple(name for name in law_names() if name not in {"ExpandProducts", "OrderProducts"})
"""Laws that can be switched off: the other two make a region's expression, and a program of it."""
EXPRESSIONS: Mapping[str, Any] = {**derivations.ZOO, **structured.ZOO, **zoo.ZOO}
LEAST = 1.01
"""Ratio of expected times that counts as a difference."""


def algebra(name: str) -> Program:
    """An expression after the exact passes that come before derivation."""
    model, inputs = EXPRESSIONS[name]()
    passes = registry().parse("default").passes
    return Pipeline(tuple(p for p in passes if not p.bargain)).run(trace(model, inputs).algebra)


def gain(program: Program, without: Sequence[str] = ()) -> float:
    """The expected time of a program over that of the best one derived."""
    explorer = Explorer(program, Trace(), without=frozenset(without))
    found = offered(program, explorer.run())
    constants = frozenset(constant_tensors(program))
    before = explorer.estimate.expected(program, constants)
    return max([1.0, *(before / explorer.estimate.expected(p, constants) for p in found)])


def main(names: Sequence[str]) -> None:
    """Prints a row for each expression, and for each law how many it serves."""
    serves = dict.fromkeys(NAMES, 0)
    print("| expression | all laws |", " | ".join(f"no {n}" for n in NAMES), "|")
    print("|---|---:|" + "---:|" * len(NAMES))
    for name in names or tuple(EXPRESSIONS):
        program = algebra(name)
        whole = gain(program)
        cells = []
        for law in NAMES:
            rest = gain(program, [law])
            matters = whole > LEAST * rest
            serves[law] += matters
            cells.append(f"{rest:.2f}" if matters else "·")
        print(f"| {name} | {whole:.2f} |", " | ".join(cells), "|", flush=True)
    print("| expressions served | |", " | ".join(str(serves[n]) for n in NAMES), "|")


if __name__ == "__main__":
    main(sys.argv[1:])
