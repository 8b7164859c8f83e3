"""Applies rules until none applies: bottom-up, in the order given, at most ``budget`` rewrites.

The same terms, rules and budget give the same result in any process. A larger budget only adds rewrites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tpopt.ir import Program, Scalar, Stage
from tpopt.ir.walk import children, with_children
from tpopt.rewrite.rule import Rule, StageRule, TermRule
from tpopt.rewrite.stages import map_bodies
from tpopt.rewrite.trace import Trace

DEFAULT_STATES = 1_000_000
"""Rewrites that one pass may make: far above what a model of 10,000 stages needs, so that only a defect meets it."""

Node = TypeVar("Node")
Result = TypeVar("Result")


@dataclass
class Budget:
    """Counts states: each rewrite leads to one. ``spend`` says whether one more is allowed."""

    states: int = DEFAULT_STATES
    spent: int = 0

    def spend(self) -> bool:
        """Takes one state; False when none is left."""
        if self.spent >= self.states:
            return False
        self.spent += 1
        return True


@dataclass
class Rewriter:
    """Applies term rules, remembering the normal form of every term it has met."""

    rules: Sequence[TermRule]
    trace: Trace
    budget: Budget = field(default_factory=Budget)
    _normal: dict[Scalar, Scalar] = field(default_factory=dict)
    _becomes: dict[Scalar, Scalar] = field(default_factory=dict)

    def __call__(self, root: Scalar) -> Scalar:
        """The normal form of a term."""
        pending = [root]
        opened: dict[Scalar, None] = {}  # terms that wait for others further up in ``pending``
        while pending:
            term = pending[-1]
            if term in self._normal:
                pending.pop()
                continue
            following = self._becomes.get(term)
            wanted = (following,) if following is not None else children(term)
            missing = [t for t in wanted if t not in self._normal]
            if any(t in opened for t in missing):
                self._break(pending, opened)
            elif missing:
                opened[term] = None
                pending.extend(reversed(missing))
            elif following is not None:
                self._normal[term] = self._normal[following]
            else:
                self._advance(term)
        return self._normal[root]

    def _break(self, pending: list[Scalar], opened: dict[Scalar, None]) -> None:
        """A term waits for itself, because a rewrite holds what it came from: the innermost such rewrite is undone."""
        while pending[-1] not in opened or pending[-1] not in self._becomes:
            opened.pop(pending.pop(), None)
        self._normal[pending[-1]] = pending[-1]
        self.trace.refused(type(pending[-1]).__name__, "a rewrite of the term holds the term itself")

    def _advance(self, term: Scalar) -> None:
        """One step of a term whose operands are normal: take them, or let a rule rewrite it, or call it normal."""
        operands = tuple(self._normal[c] for c in children(term))
        if operands != children(term):
            new: Scalar | None = with_children(term, operands)
        else:
            new = first_result(self.rules, term, self.trace, self.budget, self._in_progress)
        if new is None or self._in_progress(new):
            self._normal[term] = term
        else:
            self._becomes[term] = new

    def _in_progress(self, term: Scalar) -> bool:
        return term in self._becomes and term not in self._normal


def first_result(
    rules: Sequence[Rule[Node, Result]], node: Node, trace: Trace, budget: Budget,
    returns: Callable[[Result], bool] = lambda result: False,
) -> Result | None:  # fmt: skip
    """The result of the first rule that applies to a node; refusals go to the trace.

    A result that ``returns`` to where the rewriting came from is refused: two laws undo each other.
    """
    for rule in rules:
        if not isinstance(node, rule.heads):
            continue
        match = rule.pattern(node)
        if match is None:
            continue
        refusal = rule.check(match)
        if refusal is not None:
            trace.refused(rule.name, refusal)
            continue
        if not budget.spend():
            trace.refused(rule.name, f"the budget of {budget.states} rewrites is spent")
            return None
        result = rule.rewrite(match)
        if returns(result):
            trace.refused(rule.name, "another rule undoes it")
            continue
        trace.applied(rule.name, numerics=rule.numerics)
        return result
    return None


def rewrite_term(
    root: Scalar, rules: Sequence[TermRule], trace: Trace | None = None, budget: Budget | None = None
) -> Scalar:
    """A term's normal form under rules."""
    return Rewriter(rules, trace or Trace(), budget or Budget())(root)


def rewrite_terms(program: Program, rules: Sequence[TermRule], trace: Trace, budget: Budget | None = None) -> Program:
    """A program with the terms of all its stages in normal form, those nested in Scan and Cond included."""
    rewriter = Rewriter(rules, trace, budget or Budget())
    stages = []
    for stage in program.stages:
        with trace.at([o.name for o in stage.outs]):
            stages.append(
                map_bodies(stage, rewriter, lambda inner: rewrite_terms(inner, rules, trace, rewriter.budget))
            )
    return (
        program
        if all(a is b for a, b in zip(stages, program.stages, strict=True))
        else program.with_stages(tuple(stages))
    )


def rewrite_stages(program: Program, rules: Sequence[StageRule], trace: Trace, budget: Budget | None = None) -> Program:
    """A program whose stages no rule rewrites any more. What a stage becomes is tried again at once."""
    limit = budget or Budget()
    done: list[Stage] = []
    for stage in program.stages:
        pending = [stage]
        while pending:
            current = pending.pop()
            with trace.at([o.name for o in current.outs]):
                new = first_result(rules, current, trace, limit, lambda result, current=current: result == (current,))  # type: ignore[misc]
            if new is None:
                done.append(current)
            else:
                pending.extend(reversed(new))
    return program if tuple(done) == program.stages else program.with_stages(tuple(done))
