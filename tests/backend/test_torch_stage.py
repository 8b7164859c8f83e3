from __future__ import annotations

import torch
from support.covers import candidate

from tpopt.backend.binding import Binder
from tpopt.backend.library.torch_stage import bridge_candidates
from tpopt.choose.candidate import Candidates
from tpopt.choose.pricing import planned
from tpopt.ir import Kernel, Program
from tpopt.ir.parse import parse_program


def bridged(text: str, *needs: str) -> tuple[Candidates, Program]:
    """What bridges the gaps of a program where one candidate needs some of its tensors."""
    program, found = parse_program(text), Candidates()
    found.add(candidate("user", " ".join(needs), "out"))
    bridge_candidates([program], found)
    return found, program


CHAIN = """program p(x: f32[7,3], n: i64[7])
a: f32[7,3] = L[i:7,j:3] x[i,j] * 2.0
b: f32[7] = L[i:7] max[k:3]{ a[i,k] } + 1.0
c: f32[7] = L[i:7] b[i] * b[i]
g: f32[7] = L[i:7] x[n[i]{0:7},0]
return c"""


def test_what_a_candidate_needs_is_bridged_and_what_that_needs():
    found, _ = bridged(CHAIN, "b")
    assert [(c.name, [v.name for v in c.needs]) for c in found.admitted[1:]] == [("a:torch", ["x"]), ("b:torch", ["a"])]


def test_what_nobody_needs_or_somebody_makes_is_left_alone():
    found, program = bridged(CHAIN, "x")
    assert len(found.admitted) == 1
    found.add(candidate("reader", "c", "z"))
    found.add(candidate("maker", "x", "c"))
    bridge_candidates([program], found)
    assert [c.name for c in found.admitted] == ["user", "reader", "maker"]


def test_products_of_computed_tensors_are_offered_as_elementwise_work_too():
    text = """program p(x: f32[7,3], y: f32[7,3])
    z: f32[7] = L[i:7] sum[k:3]{ x[i,k] * y[i,k] }
    return z"""
    assert [c.name for c in bridged(text, "x")[0].admitted[1:]] == ["z:torch"]


def test_the_stage_is_computed_by_torch():
    found, _ = bridged(CHAIN, "b")
    stage = planned(found.admitted[2])
    assert isinstance(stage, Kernel)
    call, x = Binder({}).bind(stage, {}), torch.randn(7, 3)
    assert (call.outs, call.single) == (("b",), True)
    torch.testing.assert_close(call.function(x), x.amax(1) + 1)


def test_equal_stages_have_one_price_whatever_their_tensors_are_called():
    other = CHAIN.replace("b", "q").replace("a:", "r:").replace("a[", "r[")
    keys = [bridged(text, name)[0].admitted[2].key for text, name in ((CHAIN, "b"), (other, "q"))]
    assert keys[0] == keys[1]
