"""The rewriting machinery: rules and their driver, passes and pipelines, the trace of what was tried and why not."""

from __future__ import annotations

from tpopt.rewrite.callbacks import PrintAfter, Timing
from tpopt.rewrite.driver import Budget, first_result, rewrite_stages, rewrite_term, rewrite_terms
from tpopt.rewrite.forms import forms
from tpopt.rewrite.numerics import Numerics
from tpopt.rewrite.passes import Callback, Pass, Pipeline, Step, check_contract
from tpopt.rewrite.registry import Registry, registry
from tpopt.rewrite.rule import Match, Refusal, Rule, StageRule, TermRule
from tpopt.rewrite.spelling import spell
from tpopt.rewrite.trace import Event, Trace

__all__ = [
    "Budget", "Callback", "Event", "Match", "Numerics", "Pass", "Pipeline", "PrintAfter", "Refusal", "Registry", "Rule",
    "StageRule", "Step", "TermRule", "Timing", "Trace", "check_contract", "first_result", "forms", "registry",
    "rewrite_stages", "rewrite_term", "rewrite_terms", "spell",
]  # fmt: skip
