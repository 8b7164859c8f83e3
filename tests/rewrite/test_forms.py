from __future__ import annotations

from tpopt.ir.parse import parse_program
from tpopt.rewrite import forms, registry

SHARED = """program p(x: f32[9,16])
weight a: f32[8,16]
weight b: f32[4,16]
q: f32[9,8] = L[i:9,j:8] sum[k:16]{ x[i,k] * a[j,k] }
v: f32[9,4] = L[i:9,j:4] sum[k:16]{ x[i,k] * b[j,k] }
y: f32[9] = L[i:9] sum[k:4]{ q[i,k] * v[i,k] }
return y"""


def shown(pipeline: str) -> list[list[str]]:
    found = forms(registry().parse(pipeline), parse_program(SHARED))
    return [[o.name for s in form.stages for o in s.outs] for form in found]


def test_a_program_that_no_bargain_changes_has_one_form():
    assert shown("dead-code,simplify") == [["q", "v", "y"]]


def test_what_was_merged_stays_on_offer_apart_and_says_how_its_parts_come_from_the_whole():
    merged, plain, parts = shown("merge-shared-gemms,inline-views,dead-code")
    assert merged == ["q.merged.weight", "q.merged", "y"]
    assert plain == ["q", "v", "y"]
    assert parts == ["q.merged.weight", "q.merged", "q", "v", "y"]
