from __future__ import annotations

import sys
from typing import Any

import torch

from tpopt.backend.call import Call, Ref
from tpopt.runtime.source import PlanSource, last_uses

OPTIONS = [1, 2]
WEIGHT = torch.ones(3)


def add(a: Any, b: Any, *, out: Any = None) -> Any:
    return a + b if out is None else out.__iadd__(a + b)


def halves(a: Any) -> list[Any]:
    return [a[:1], a[1:]]


def tail(parts: list[Any], options: list[int], *, scale: float) -> Any:
    return parts[0] * scale + sum(options)


CALLS = (
    Call("twice", add, (Ref("x"), Ref("x")), (), ("y",), out_function=add),
    Call("halves", halves, (Ref("y"),), (), ("a", "b.c"), single=False),
    Call("tail", tail, ([Ref("a"), Ref("w")], OPTIONS), (("scale", 0.5),), ("z",)),
)
PLAN = """\
def run(v0_x, buffers):
    v1_y = f0(v0_x, v0_x, out=buffers[3])  # twice
    del v0_x
    [v1_a, v2_b_c] = f1(v1_y)  # halves
    del v1_y, v2_b_c
    v1_z = f5([v1_a, w2], c3, scale=c4)  # tail
    del v1_a
    return [v1_z, copy6(v1_z), w2]
"""


def source(**changes: Any) -> PlanSource:
    arguments = {"inputs": ("x",), "calls": CALLS, "outputs": ("z", "z", "w"), "constants": {"w": WEIGHT}}
    return PlanSource(**{**arguments, "placed": {"y": 3}, "copied": frozenset({1})} | changes)


def test_a_plan_is_one_line_a_call_and_drops_each_value_after_its_last_use():
    assert source().text == PLAN


def test_constants_are_passed_by_reference():
    made = source()
    assert made.globals["w2"] is WEIGHT
    assert made.globals["c3"] is OPTIONS


def test_only_placed_values_are_written_through_out():
    assert "out=" not in source(placed={}).text
    assert "out=" not in source(placed={"a": 0}).text  # one of several results has no out= form


def test_the_function_runs():
    buffers = [None, None, None, torch.zeros(3)]
    z, copy, weight = source().compile()(torch.ones(3), buffers)
    assert z.tolist() == copy.tolist() == [4.0]
    assert buffers[3].tolist() == [2.0, 2.0, 2.0]
    assert weight is WEIGHT
    assert copy is not z


def test_a_value_is_gone_when_the_next_call_runs():
    counts = []

    def count(a: Any) -> Any:
        counts.append(sys.getrefcount(a))
        return a + 1

    calls = tuple(Call("count", count, (Ref(f"v{k}"),), (), (f"v{k + 1}",)) for k in range(3))
    source(inputs=("v0",), calls=calls, outputs=("v3",), placed={}, copied=frozenset()).compile()(torch.ones(2), [])
    assert counts[1] == counts[2]
    assert last_uses(calls, ("v3",)) == {"v0": 0, "v1": 1, "v2": 2, "v3": 3}


def test_names_of_values_cannot_break_the_text():
    hostile = "a; import os #²\n"
    calls = (Call("add", add, (Ref(hostile), 1), (), ("out)",)),)
    made = source(inputs=(hostile,), calls=calls, outputs=("out)",), placed={}, copied=frozenset())
    assert made.text.splitlines()[0] == "def run(v0_a__import_os____, buffers):"
    assert made.compile()(torch.ones(1), [])[0].tolist() == [2.0]


def test_values_with_alike_names_stay_apart():
    calls = (Call("add", add, (Ref("a.b"), Ref("a_b")), (), ("c",)),)
    made = source(inputs=("a.b", "a_b"), calls=calls, outputs=("c",), placed={}, copied=frozenset())
    assert made.compile()(torch.ones(1), torch.ones(1) * 4, [])[0].tolist() == [5.0]


class Doubled:
    """A kernel that writes twice its argument, and its negative, where it is told."""

    def prepare(self) -> None:
        """Nothing to do."""

    def fresh(self) -> list[Any]:
        return [lambda: torch.empty(3), lambda: torch.empty(3)]

    def at(self, args: Any) -> Any:
        return self.write

    @staticmethod
    def write(x: torch.Tensor, twice: torch.Tensor, negative: torch.Tensor) -> None:
        twice.copy_(x * 2)
        negative.copy_(-x)


INTO = (Call("both", Doubled.write, (Ref("x"),), (), ("a", "b"), single=False, into=Doubled()),)


def test_a_kernel_writes_into_its_place_and_into_new_memory_where_it_has_none():
    made = source(calls=INTO, outputs=("b",), placed={"a": 0}, copied=frozenset(), direct={0: Doubled.write})
    place = torch.zeros(3)
    (negative,) = made.compile()(torch.ones(3), [place])
    assert (place.tolist(), negative.tolist()) == ([2.0] * 3, [-1.0] * 3)
