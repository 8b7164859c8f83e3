"""Forms of a program with codes in the place of values, and of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tpopt.ir import Program
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program
from tpopt.passes.precision.coded import byte_weights
from tpopt.passes.precision.quantized import Quantized

TEXT = """program p(x: f32[{rows},256])
weight w: f32[256,300]
y: f32[{rows},300] = L[i:{rows},j:300] sum[k:256]{{ x[i,k] * w[k,j] }}
return y
"""


def given(rows: int) -> tuple[Program, Program]:
    weight = np.random.default_rng(0).standard_normal((256, 300)).astype(np.float32)
    program = replace(parse_program(TEXT.format(rows=rows)), constants={"w": weight})
    return program, byte_weights(program, Quantized([program], lambda _: []))


@pytest.mark.parametrize(("rows", "names"), [(1, ["w.i8", "w.i8.scale"]), (8, ["w.i8", "w.i8.scale"]), (9, ["w"])])
def test_few_rows_are_multiplied_by_weights_of_a_byte(rows: int, names: list[str]):
    _, made = given(rows)
    assert [t.name for t in made.weights] == names


def test_each_column_has_its_scale_and_the_error_is_that_of_a_byte():
    program, made = given(2)
    assert made.weights[1].shape == (300,)
    x = np.random.default_rng(1).standard_normal((2, 256)).astype(np.float32)
    (exact,), (found,) = interpret(program, [x]), interpret(made, [x])
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 1e-2
