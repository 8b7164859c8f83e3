"""Pipelines: the contract that they check after each pass, and their callbacks."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from support.rewriting import valued

from tpopt.errors import InvalidProgram
from tpopt.ir import Program
from tpopt.ir.parse import parse_program
from tpopt.rewrite import Pass, Pipeline, PrintAfter, Step, Timing, Trace

TEXT = """program p(x: f32[3])
weight w: f32[3]
y: f32[3] = L[i:3] x[i] * w[i]
z: f32[3] = L[i:3] exp(y[i])
return z"""


@dataclass(frozen=True)
class Change(Pass):
    name: ClassVar[str] = "change"
    how: Callable[[Program], Program]

    def run(self, program: Program, trace: Trace) -> Program:
        trace.applied("Change")
        return self.how(program)


def becomes(text: str) -> Pipeline:
    """A pipeline whose pass turns the program into another one with the same weights' values."""
    return Pipeline((Change(lambda p: replace(parse_program(text), constants=p.constants)),))


def test_a_pass_may_add_and_drop_tensors():
    after = becomes(TEXT.replace("z: f32[3] = L[i:3] exp(y[i])", "z: f32[3] = L[i:3] exp(x[i] * w[i])")).run(
        valued(TEXT)
    )
    assert [s.outs[0].name for s in after.stages] == ["y", "z"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("exp(y[i])", "exp(y[i]) + v[0]", "unknown tensor"),
        ("x: f32[3])", "x: f32[3], v: f32[3])", "pass change changed the program's inputs; they are its signature"),
        ("return z", "return y", "pass change changed the program's outputs; they are its signature"),
        ("return z", "return z\nalias 0 -> x", "pass change changed the program's aliases; they are its signature"),
        (
            "weight w",
            "symbol s in [1, 9]\nweight w",
            "pass change changed the program's symbols; they are its signature",
        ),
    ],
)
def test_a_pass_may_not_change_the_signature(old: str, new: str, message: str):
    with pytest.raises((InvalidProgram, ValueError), match=message):
        becomes(TEXT.replace(old, new)).run(valued(TEXT))


def test_a_name_keeps_its_type():
    text = """program p(x: f32[3])
        weight w: f32[3]
        y: f64[3] = L[i:3] f64(x[i] * w[i])
        z: f32[3] = L[i:3] exp(f32(y[i]))
        return z"""
    with pytest.raises(InvalidProgram, match=r"pass change gave the name y to y: f64\[3\]; it stands for y: f32\[3\]"):
        becomes(text).run(valued(TEXT))


def test_a_weight_keeps_its_value():
    other = Change(lambda p: replace(p, constants={"w": np.zeros(3, np.float32)}))
    with pytest.raises(InvalidProgram, match="pass change changed the value of weight w; a new value needs a new name"):
        Pipeline((other,)).run(valued(TEXT))


def test_an_invalid_result_names_the_pass():
    broken = Change(lambda p: p.with_stages(p.stages[1:]))
    with pytest.raises(InvalidProgram, match=r"pass change made an invalid program: .*y"):
        Pipeline((broken,)).run(valued(TEXT))


def test_callbacks_see_each_step():
    steps: list[Step] = []
    before = valued(TEXT)
    nothing, same = Change(lambda p: p), Change(lambda p: p.with_stages(p.stages))
    after = Pipeline((nothing, same)).with_callbacks(steps.append).run(before)
    assert [(s.what, s.before is before, s.after is before) for s in steps] == [
        (nothing, True, True),
        (same, True, False),
    ]
    assert steps[1].after is after
    assert all(s.seconds >= 0 for s in steps)


def test_printing_shows_changed_programs_alone():
    stream = io.StringIO()
    Pipeline((Change(lambda p: p), Change(lambda p: p.with_stages(p.stages)))).with_callbacks(PrintAfter(stream)).run(
        valued(TEXT)
    )
    assert stream.getvalue().count("# after change") == 1
    assert TEXT in stream.getvalue()


def test_timing_adds_up_by_name():
    timing = Timing()
    timing(Step(Change(lambda p: p), valued(TEXT), valued(TEXT), 1.0))
    timing(Step(Change(lambda p: p), valued(TEXT), valued(TEXT), 2.0))
    assert timing.rows() == {"change": 3.0}


def test_events_belong_to_the_pass():
    trace = Trace()
    Pipeline((Change(lambda p: p),)).run(valued(TEXT), trace)
    assert trace.to_dict() == [{"name": "change", "applied": 1, "refused": []}]
