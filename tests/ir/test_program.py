from __future__ import annotations

import numpy as np
import pytest

from tpopt.ir import Builder, DType, Iter, Origin, Program, apply, reduce, tensor, total
from tpopt.ir.build import compute
from tpopt.ir.canonical import structural_hash
from tpopt.ir.parse import parse_program

TEXT = """program p(x: f32[7,5])
weight w: f32[5]
a: f32[7] = L[i:7] sum[k:5]{ x[i,k] * w[k] }
b: f32[7] = L[i:7] exp(a[i])
c: f32[7] = L[i:7] a[i] + b[i]
return c, x
alias 0 -> x"""


def names(tensors) -> list[str]:
    return [t.name for t in tensors]


def test_producers_and_consumers():
    program = parse_program(TEXT)
    a, b, c = (s.outs[0] for s in program.stages)
    assert program.producers[b] is program.stages[1]
    assert program.consumers[a] == program.stages[1:]
    assert c not in program.consumers
    assert names(program.consumers) == ["x", "w", "a", "b"]


def test_tensors_and_their_roles():
    program = parse_program(TEXT)
    assert list(program.tensors) == ["x", "w", "a", "b", "c"]
    assert [program.role(t) for t in program.tensors.values()] == ["input", "weight", "local", "local", "output"]


def test_values_and_origins_travel_beside_the_program():
    program = parse_program(TEXT)
    named = Program(
        program.name,
        program.inputs,
        program.weights,
        program.stages,
        program.outputs,
        program.aliases,
        constants={"w": np.ones(5, np.float32)},
        origins={"a": Origin(("linear",), ("model.py:3",), "net.head")},
    )
    assert str(named) == TEXT
    assert named.origin("a").module == "net.head"
    assert named.origin("b") == Origin()
    fewer = named.with_stages(program.stages[:1], outputs=program.stages[0].outs, aliases=())
    assert fewer.constants is named.constants
    assert names(fewer.validate().outputs) == ["a"]


def test_the_builder_hands_out_free_names():
    x = tensor("x", (4,), DType.F32)
    b = Builder(["x"])
    made = [b.compute("x", (4,), lambda i: x[i] + 1.0), b.compute("x", (4,), lambda i: x[i] + 2.0)]
    low, high = b.compute_many("x", (4,), lambda i: (x[i], -x[i]))
    assert names((*made, low, high)) == ["x_1", "x_2", "x_3", "x_4"]
    assert b.name("y") == "y"
    assert b.name("y") == "y_1"
    assert len(b.stages) == 3


def chain(length: int) -> Program:
    x, w = tensor("x", (64,), DType.F32), tensor("w", (64, 64), DType.F32)
    b, k, v = Builder(["x", "w"]), Iter("k", 64), x
    for n in range(length):
        v = b.compute(f"v{n}", (64,), lambda i, v=v: apply("max", total((k,), v[k] * w[i, k]) + 1.0, 0.0))
    return Program("deep", (x,), (w,), tuple(b.stages), (v,))


def test_ten_thousand_stages_print_parse_and_validate():
    program = chain(10_000).validate()
    again = parse_program(str(program))
    assert again.stages == program.stages
    assert len(again.producers) == len(again.consumers) - 1 == 10_000


@pytest.mark.parametrize("length", [1_500, pytest.param(10_000, marks=pytest.mark.acceptance)])
def test_a_long_chain_has_a_hash(length: int):
    assert len(structural_hash(chain(length))) == 32


@pytest.mark.parametrize("length", [1, 3])
def test_a_longer_chain_is_another_program(length: int):
    assert structural_hash(chain(2)) != structural_hash(chain(length))


def test_a_stage_of_one_output_by_a_function_of_its_iterators():
    x = tensor("x", (3, 4), DType.F32)
    stage = compute("y", (3,), lambda i: reduce("max", (Iter("k", 4),), x[i, Iter("k", 4)]))
    assert str(Program("p", (x,), (), (stage,), stage.outs)) == (
        "program p(x: f32[3,4])\ny: f32[3] = L[i0:3] max[k:4]{ x[i0,k] }\nreturn y"
    )
