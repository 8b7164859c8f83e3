"""How far the chosen plan is from the best of those that were turned down, on random pieces of the zoo's models.

    python examples/regret.py [--count 200] [--seed 0] [--log regret.jsonl]

A piece is a window of neighbouring operators of one model, on the values that they really see. What runs it is chosen
as ``tpopt.compile`` chooses: by prices, then by a race. Then the kernels that it uses are forbidden and the next plan
is chosen, for which others are built, up to ``OTHERS`` times. All of them take turns, and so do the piece as it was and
what lost the race. The regret is the time of what was chosen over that of the fastest. Pieces in the log are not timed
again.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import zoo
from torch.utils import _pytree

from tpopt._compile.attempt import Attempt
from tpopt._compile.build import beside, build, callable_of
from tpopt._compile.gate import race
from tpopt.choose.cover import Choice, solved
from tpopt.choose.rounds import priced
from tpopt.errors import InvalidProgram, TpoptError
from tpopt.measure import Stopwatch, interleave
from tpopt.options import Options

OTHERS = 5
ROUNDS = 11
SHARE = 0.5
"""Part of the time that is left which kernels for the next plan may take."""
LONGEST = 8
"""Operators of a piece."""
SLOW_US = 50.0
"""From here on a regret is a ratio; below, it is counted in microseconds."""


class Pieces:
    """Windows of operators of one model, with the values that go into them."""

    def __init__(self, model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        exported = torch.export.export(model.eval(), inputs)
        self._graph = exported.graph_module.graph
        held = {**dict(exported.named_parameters()), **dict(exported.named_buffers()), **exported.constants}
        names = {
            **exported.graph_signature.inputs_to_parameters,
            **exported.graph_signature.inputs_to_buffers,
            **exported.graph_signature.inputs_to_lifted_tensor_constants,
        }
        self._weights = {node: held[name].detach() for node, name in names.items()}
        self._values: dict[str, Any] = {}
        leaves = iter(_pytree.tree_leaves(inputs))
        given = [self._weights.get(n.name, None) for n in self._graph.nodes if n.op == "placeholder"]
        given = [next(leaves) if value is None else value for value in given]
        pieces = self

        class Recorder(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                pieces._values[n.name] = super().run_node(n)
                return pieces._values[n.name]

        with torch.no_grad():
            Recorder(exported.graph_module).run(*given)
        self._calls = [n for n in self._graph.nodes if n.op == "call_function"]

    def draw(self, rng: random.Random) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]] | None:
        """A piece and its inputs; ``None`` where the window that was drawn computes no tensor from another."""
        size = rng.randint(1, min(LONGEST, len(self._calls)))
        first = rng.randrange(len(self._calls) - size + 1)
        window = self._calls[first : first + size]
        inside, made = set(window), torch.fx.Graph()
        root, copies, inputs = torch.nn.Module(), dict[torch.fx.Node, torch.fx.Node](), list[torch.Tensor]()
        for node in window:
            for outer in node.all_input_nodes:
                if outer in copies or outer in inside:
                    continue
                value = self._values[outer.name]
                if not isinstance(value, torch.Tensor):
                    return None
                if outer.name in self._weights:
                    root.register_buffer(outer.name, value)
                    copies[outer] = made.get_attr(outer.name)
                else:
                    copies[outer] = made.placeholder(outer.name)
                    inputs.append(value.clone())
        for node in window:
            copies[node] = made.node_copy(node, copies.__getitem__)
        outs = [n for n in window if any(u not in inside for u in n.users)]
        tensors = [n for n in outs if isinstance(self._values[n.name], torch.Tensor)]
        if not inputs or not tensors or len(tensors) < len(outs):
            return None
        made.output(tuple(copies[n] for n in tensors))
        placed = [n for n in made.nodes if n.op == "placeholder"]
        assert len(placed) == len(inputs)
        return torch.fx.GraphModule(root, made), tuple(inputs)


def regret(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[list[float], list[str]]:
    """Median microseconds of what was chosen and of everything else, and the kernels of each."""
    attempt = Attempt(model, inputs, {}, None, Options(effort="fast"), time.perf_counter())
    built = build(attempt)
    result = race(attempt, built)
    raced = [built, *built.rivals.values()]
    first = attempt.built if result.status == "optimized" else None
    choices = [b.choice for b in sorted(raced, key=lambda b: b is not first)]
    calls: dict[str, Callable[[], Any]] = {"original": lambda: model(*inputs)}
    kinds = {"original": "original"}
    for number, choice in enumerate((*choices, *_in_turn(attempt, choices[0]))):
        call = callable_of(attempt, beside(built.specialization, choice), built.state)
        calls[str(number)] = lambda call=call: call(*inputs)
        kinds[str(number)] = " + ".join(c.name for c in choice.solution.picked)
    with torch.no_grad():
        timings = interleave(calls, rounds=ROUNDS, stopwatch=Stopwatch(settle_s=0.0))
    names = sorted(calls, key=lambda n: n != ("original" if first is None else "0"))
    return [1e6 * statistics.median(timings.seconds[n]) for n in names], [kinds[n] for n in names]


def _in_turn(attempt: Attempt, choice: Choice) -> Iterator[Choice]:
    """What is chosen where nothing that was picked before may be used."""
    assert attempt.traced is not None
    assert attempt.pricer is not None
    found = choice.found
    for _ in range(OTHERS):
        found = found.without(choice.solution.picked, "its turn is over")
        attempt.pricer.deadline = attempt.until(SHARE)
        try:
            prices = priced(attempt.traced.original, attempt.forms, found, attempt.pricer)
            choice = solved(attempt.traced.original, attempt.forms, found, prices)
        except InvalidProgram:
            return
        if not choice.solution.picked:
            return
        yield choice


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each piece, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    known = {}
    if chosen.log is not None and chosen.log.exists():
        known = {row["piece"]: row for row in map(json.loads, chosen.log.read_text().splitlines())}
    models: dict[str, Pieces] = {}
    rows = []
    for number in range(chosen.count):
        rng = random.Random(f"{chosen.seed} {number}")  # noqa: S311 - pieces, not secrets
        name = rng.choice(sorted(zoo.ZOO))
        if str(number) not in known:
            if name not in models:
                models[name] = Pieces(*zoo.ZOO[name]())
            row = _timed(models[name], rng, str(number), name)
            if chosen.log is not None:
                with chosen.log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            known[str(number)] = row
        rows.append(known[str(number)])
    _print_summary(rows)


def _timed(pieces: Pieces, rng: random.Random, number: str, name: str) -> dict[str, Any]:
    while True:
        drawn = pieces.draw(rng)
        if drawn is None:
            continue
        try:
            times, kinds = regret(*drawn)
        except TpoptError as error:
            print(f"{number} {name}: {type(error).__name__}: {error}"[:160])
            continue
        if len(times) > 1:
            break
    print(
        f"{number:>4} {name:14} {times[0]:9.1f} us, {times[0] / min(times):.3f} of the best of {len(times)}", flush=True
    )
    return {"piece": number, "model": name, "us": times, "kernels": kinds}


def _print_summary(rows: Sequence[dict[str, Any]]) -> None:
    ratios = [r["us"][0] / min(r["us"]) for r in rows]
    slow = [(r["us"][0] / min(r["us"]), r["piece"]) for r in rows if min(r["us"]) >= SLOW_US]
    fast = [(r["us"][0] - min(r["us"]), r["piece"]) for r in rows if min(r["us"]) < SLOW_US]
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"{len(rows)} pieces: geometric mean of chosen over best {mean:.3f}")
    for title, found in ((f"from {SLOW_US:g} us on, ratio", slow), (f"below {SLOW_US:g} us, us more", fast)):
        if found:
            worst = sorted(found, key=operator.itemgetter(0), reverse=True)[:5]
            print(f"{title}: {len(found)} pieces, worst " + ", ".join(f"{v:.2f} ({p})" for v, p in worst))


if __name__ == "__main__":
    main()
