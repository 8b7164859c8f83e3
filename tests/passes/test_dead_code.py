"""``dead-code``: what goes, and what must stay although no output reads it."""

from __future__ import annotations

from support.rewriting import run, valued

from tpopt.passes.dead_code import DeadCode
from tpopt.rewrite import Trace


def test_drops_stages_weights_and_their_values():
    outcome = run(
        DeadCode(),
        """program p(x: f32[3], unused: f32[2])
        weight w: f32[3]
        weight v: f32[3]
        a: f32[3] = L[i:3] x[i] * w[i]
        b: f32[3] = L[i:3] x[i] * v[i]
        c: f32[3] = L[i:3] exp(b[i])
        return a""",
    )
    assert outcome.stages == "a: f32[3] = L[i:3] x[i] * w[i]"
    assert list(outcome.after.constants) == outcome.weights == ["w"]
    assert [t.name for t in outcome.after.inputs] == ["x", "unused"]
    assert outcome.applied == [("DropStage", ("b",)), ("DropStage", ("c",)), ("DropWeight", ("v",))]


def test_drops_the_unread_output_of_a_compute():
    outcome = run(
        DeadCode(),
        """program p(x: f32[3])
        a: f32[3], b: f32[3] = L[i:3] exp(x[i]), sin(x[i])
        return b""",
    )
    assert outcome.stages == "b: f32[3] = L[i:3] sin(x[i])"
    assert outcome.applied == [("DropOutput", ("a",))]


def test_keeps_both_results_of_a_sort():
    outcome = run(DeadCode(), "program p(x: f32[3])\nv: f32[3], k: i64[3] = sort(x, axis=0)\nreturn v")
    assert outcome.after is outcome.before


def test_keeps_effects_and_what_they_need():
    before = valued(
        """program p(x: f32[3])
        a: f32[3] = L[i:3] exp(x[i])
        b: f32[3] = effectful opaque aten.print.default(a)
        c: f32[3] = opaque aten.sin.default(a)
        return x"""
    )
    after = DeadCode().run(before, Trace())
    assert [s.outs[0].name for s in after.stages] == ["a", "b"]


def test_keeps_a_weight_that_an_alias_overwrites():
    before = valued("program p(x: f32[3])\nweight w: f32[3]\nreturn x\nalias 0 -> w")
    assert DeadCode().run(before, Trace()) is before


def test_cleans_the_bodies_of_loops():
    outcome = run(
        DeadCode(),
        """program p(h: f32[3], x: f32[5,3])
        e: f32[3] = scan[t:5](init=[h], xs=[x], captures=[]) {
          program body(a: f32[3], v: f32[3])
          n: f32[3] = L[i:3] a[i] + v[i]
          m: f32[3] = L[i:3] exp(n[i])
          return n
        }
        return e""",
    )
    assert "exp" not in outcome.stages
    assert outcome.applied == [("DropStage", ("m",))]
