from __future__ import annotations

import pytest
from support.covers import candidate, conversion, prices, tensor

from tpopt.choose.assemble import assemble
from tpopt.choose.candidate import CHANNELS_LAST, Candidate, Price, Value, in_layout
from tpopt.errors import InvalidProgram
from tpopt.ir import DType, Opaque, Program, Tensor
from tpopt.ir.walk import stage_reads

LAST = f"@{CHANNELS_LAST}"
GIVEN = frozenset([Value("x")])


def program(*picked: Candidate, outputs: str = "z") -> Program:
    """The program that the candidates were made for, one stage for each tensor in the order of the names."""
    names = sorted(dict.fromkeys(v.name for c in picked for v in c.produces if v.name != "x"))
    stages = tuple(Opaque((tensor(n),), "aten.f.default", (tensor("x"),)) for n in names)
    return Program("p", (tensor("x"),), (), stages, tuple(map(tensor, outputs.split())))


def order(*picked: Candidate, outputs: str = "z") -> list[str]:
    us = {c.key: Price(1.0) for c in picked}
    return [s.name for s in assemble(program(*picked, outputs=outputs), picked, us, GIVEN).steps]


def test_steps_are_in_topological_order_however_they_were_picked():
    a, b, c = candidate("a", "x", "u"), candidate("b", "u", "v"), candidate("c", "u v", "z")
    assert order(c, b, a) == order(a, b, c) == ["a", "b", "c"]


def test_independent_steps_keep_the_order_of_the_program():
    steps = [candidate(n, "x", n) for n in "cab"]
    assert order(*steps, candidate("z", "a b c", "z")) == ["a", "b", "c", "z"]


def test_a_deep_chain_is_assembled():
    steps = [candidate(f"s{k}", f"v{k}" if k else "x", f"v{k + 1}") for k in range(2000)]
    assert order(*reversed(steps), outputs="v2000") == [f"s{k}" for k in range(2000)]


def test_the_second_producer_of_a_value_is_dropped():
    assert order(candidate("a", "x", "z"), candidate("b", "x", "z")) == ["a"]


def test_a_step_without_results_stays():
    assert order(candidate("a", "x", "z"), candidate("check", "x", "")) == ["a", "check"]


def test_a_cycle_is_named():
    with pytest.raises(InvalidProgram, match="cyclic or incomplete: nobody produces u, z"):
        order(candidate("a", "z", "u"), candidate("b", "u", "z"))


def test_values_are_named_by_their_layout():
    picked = (
        candidate("conv", "x", f"y{LAST}"),
        conversion("back", f"y{LAST}", "y"),
        candidate("head", "y", "z"),
    )
    plan = assemble(program(*picked), picked, prices(conv=5, back=1, head=2), GIVEN)
    assert [[o.name for o in s.stage.outs] for s in plan.steps] == [["y.cl"], ["y"], ["z"]]
    assert [[t.name for t in stage_reads(s.stage)] for s in plan.steps] == [["x"], ["y.cl"], ["y"]]
    assert plan.steps[0].stage.outs[0].layout == CHANNELS_LAST
    assert in_layout(tensor("y"), "") is tensor("y")


def test_steps_carry_their_prices():
    picked = (candidate("a", "x", "y"), candidate("b", "y", "z"))
    us = {"a": Price(5.0), "b": Price(2.0, 1.9, 2.2, measured=True)}
    plan = assemble(program(*picked), picked, us, GIVEN)
    assert [(s.predicted_us, s.measured_us) for s in plan.steps] == [(5.0, None), (2.0, 2.0)]
    assert plan.count() == {"gemm": 2}


def test_only_weights_in_use_are_kept():
    used, idle = Tensor("w", (3,), DType.F32), Tensor("unused", (3,), DType.F32)
    stage = Opaque((tensor("z"),), "aten.mul.Tensor", (tensor("x"), used))
    whole = Program("p", (tensor("x"),), (idle, used), (stage,), (tensor("z"),))
    one = Candidate("z", "original", stage, (Value("x"),), (Value("z"),), "z")
    given = frozenset([*GIVEN, Value("w"), Value("unused")])
    assert assemble(whole, (one,), prices(z=1), given).program.weights == (used,)
