"""The driver: bottom-up to a fixpoint, a budget in rewrites, refusals with reasons, and no rule that undoes another."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from support.rewriting import valued

from tpopt.ir import Apply, Compute, Const, DType, Iter, Read, Scalar, Tensor, apply
from tpopt.ir.text import print_stage
from tpopt.rewrite import (
    Budget,
    Match,
    Numerics,
    Refusal,
    StageRule,
    TermRule,
    Trace,
    rewrite_stages,
    rewrite_term,
    rewrite_terms,
)

X = Tensor("x", (7,), DType.F32)[Iter("i", 7)]


@dataclass(frozen=True)
class UnwrapNegation(TermRule):
    numerics = Numerics.ROUNDING
    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("neg", (x,)):
                return Match(x=x)
        return None

    def check(self, match: Match) -> Refusal | None:
        return Refusal("it is a literal") if isinstance(match.x, Const) else None

    def rewrite(self, match: Match) -> Scalar:
        return match.x


@dataclass(frozen=True)
class Swap(TermRule):
    source: str
    target: str

    def pattern(self, node: Scalar) -> Match | None:
        return Match(args=node.args) if isinstance(node, Apply) and node.function == self.source else None

    def rewrite(self, match: Match) -> Scalar:
        return Apply(self.target, match.args)


@dataclass(frozen=True)
class Grow(TermRule):
    def pattern(self, node: Scalar) -> Match | None:
        return Match(node=node) if isinstance(node, Read) else None

    def rewrite(self, match: Match) -> Scalar:
        return Apply("exp", (match.node,))


def nested(plain: int, negated: int = 0) -> Scalar:
    """``exp`` of ``exp`` …, then ``exp`` of the negation of ``exp`` …: no two terms are alike."""
    term: Scalar = X
    for n in range(plain + negated):
        term = apply("exp", term if n < plain else -term)
    return term


def test_rewrites_to_a_fixpoint_from_the_inside():
    trace = Trace()
    assert rewrite_term(nested(0, 3), [UnwrapNegation()], trace) is nested(3)
    assert [(e.what, e.numerics) for e in trace.events] == [("UnwrapNegation", Numerics.ROUNDING)] * 3


def test_a_budget_stops_after_that_many_rewrites():
    trace, budget = Trace(), Budget(2)
    assert rewrite_term(nested(0, 3), [UnwrapNegation()], trace, budget) is nested(2, 1)
    assert budget.spent == 2
    assert trace.events[-1].detail == "the budget of 2 rewrites is spent"


@pytest.mark.parametrize("states", range(4))
def test_a_larger_budget_only_goes_further(states: int):
    assert rewrite_term(nested(0, 3), [UnwrapNegation()], Trace(), Budget(states)) is nested(states, 3 - states)


def test_a_refusal_carries_its_reason_and_place():
    trace = Trace()
    with trace.within("test"), trace.at(["y"]):
        term = rewrite_term(apply("neg", Const(1.0, DType.F32)), [UnwrapNegation()], trace)
    assert str(trace.events[0]) == "test: UnwrapNegation refused at y: it is a literal"
    assert term is apply("neg", Const(1.0, DType.F32))


def test_rules_that_undo_each_other_end():
    trace = Trace()
    rules = [Swap("sin", "cos"), Swap("cos", "sin")]
    assert rewrite_term(apply("sin", X), rules, trace) is apply("cos", X)
    assert [e.detail for e in trace.events if e.kind == "refused"] == ["another rule undoes it"]


def test_a_rule_that_rewrites_into_itself_ends():
    assert rewrite_term(X, [Grow()], Trace()) is X


def test_the_first_rule_that_applies_wins():
    rules = [Swap("sin", "cos"), Swap("sin", "tan")]
    assert rewrite_term(apply("sin", X), rules, Trace()) is apply("cos", X)


def test_deep_terms_need_no_recursion():
    assert rewrite_term(nested(0, 10_000), [UnwrapNegation()], Trace()) is nested(10_000)


def test_a_shared_term_is_rewritten_once():
    trace = Trace()
    term, plain = (apply("add", t, apply("sin", t)) for t in (-X, X))
    assert rewrite_term(term, [UnwrapNegation()], trace) is plain
    assert len(trace.events) == 1


def test_terms_of_every_stage_and_of_nested_programs():
    program = valued(
        """program p(x: f32[5,3], h: f32[3], b: i64[5])
        s: f32[5,3] = scatter add into x L[i:5,j:3] at [b[i]{0:3},j] { --x[i,j] }
        e: f32[3], ys: f32[5,3] = scan[t:5](init=[h], xs=[s], captures=[]) {
          program body(a: f32[3], v: f32[3])
          n: f32[3] = L[i:3] --a[i] + v[i]
          return n, n
        }
        return e, ys"""
    )
    after = rewrite_terms(program, [UnwrapNegation()], trace := Trace())
    assert "{ x[i,j] }" in str(after)
    assert "n: f32[3] = L[i:3] a[i] + v[i]" in str(after)
    assert [e.at for e in trace.events] == [("s",), ("n",)]


def test_an_unchanged_program_is_the_same_object():
    program = valued("program p(x: f32[3])\ny: f32[3] = L[i:3] exp(x[i])\nreturn y")
    assert rewrite_terms(program, [UnwrapNegation()], Trace()) is program


@dataclass(frozen=True)
class Halve(StageRule):
    """Splits a stage with two outputs into two stages."""

    def pattern(self, node: object) -> Match | None:
        return Match(stage=node) if isinstance(node, Compute) and len(node.outs) == 2 else None

    def rewrite(self, match: Match) -> tuple[Compute, ...]:
        stage = match.stage
        return tuple(Compute((o,), stage.loops, (b,)) for o, b in zip(stage.outs, stage.bodies, strict=True))


def test_stage_rules_may_yield_several_stages():
    program = valued("program p(x: f32[3])\na: f32[3], b: f32[3] = L[i:3] exp(x[i]), sin(x[i])\nreturn a, b")
    trace = Trace()
    after = rewrite_stages(program, [Halve()], trace)
    assert [print_stage(s) for s in after.stages] == ["a: f32[3] = L[i:3] exp(x[i])", "b: f32[3] = L[i:3] sin(x[i])"]
    assert [e.at for e in trace.events] == [("a", "b")]


def test_a_match_names_what_it_lacks():
    with pytest.raises(AttributeError, match="the pattern captured no 'y', only x"):
        _ = Match(x=1).y
