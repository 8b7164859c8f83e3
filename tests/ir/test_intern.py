from __future__ import annotations

import copy
import gc
import pickle
import threading

import pytest

from tpopt.ir import (
    DENSE,
    Apply,
    Cast,
    Const,
    DType,
    Iter,
    Position,
    Program,
    Read,
    Reduce,
    Structure,
    Symbol,
    index,
    tensor,
)
from tpopt.ir import intern as table
from tpopt.ir.parse import parse_program, parse_stage

X = tensor("x", (7, 5), DType.F32)
I, K = Iter("i", 7), Iter("k", 5)


def term() -> Reduce:
    return Reduce("sum", (Iter("k", 5),), (Apply("mul", (X[Iter("i", 7), Iter("k", 5)], Const(2.0, DType.F32))),))


MAKERS = [
    term,
    lambda: index(I) * 2 + 1,
    lambda: Cast(DType.F16, Position(index(I) // 2)),
    lambda: Symbol("s0", 1, 9),
    lambda: Structure("kron", ((2, 3), (4, 5))),
    lambda: parse_stage("y: f32[7] = L[i:7] sum[k:5]{ x[i,k] }", [X]),
]


@pytest.mark.parametrize("make", MAKERS)
def test_equal_terms_are_one_object(make):
    assert make() is make()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_and_pickles_are_the_same_object(make, duplicate):
    made = make()
    assert duplicate(made) is made


DISTINCT = [
    (Const(1.0, DType.F32), Const(1.0, DType.F64)),
    (Const(0.0, DType.F32), Const(-0.0, DType.F32)),
    (Const(1, DType.I64), Const(1.0, DType.F32)),
    (Const(complex(0.0, 0.0), DType.C64), Const(complex(0.0, -0.0), DType.C64)),
    (Structure("low_rank", (1,)), Structure("low_rank", (1.0,))),
    (Structure("low_rank", (1,)), Structure("low_rank", (True,))),
    (Iter("i", 7), Iter("i", 8)),
    (X[I, K], X[K, K]),
    (tensor("x", (7,), DType.F32), tensor("x", (7,), DType.F16)),
]


@pytest.mark.parametrize(("a", "b"), DISTINCT)
def test_what_python_calls_equal_stays_apart(a, b):
    assert a is not b


def test_not_a_number_is_itself():
    assert Const(float("nan"), DType.F32) is Const(-float("nan"), DType.F32)


def test_threads_get_one_object():
    found, ready = [[] for _ in range(8)], threading.Barrier(8)

    def make(mine: list[object]) -> None:
        ready.wait()
        mine += [Read(tensor(f"shared{n}", (3,), DType.F32), (index(n % 3),)) for n in range(200)]

    threads = [threading.Thread(target=make, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == found[0] for mine in found)


def test_terms_that_nobody_holds_leave_the_table():
    gc.collect()
    before = len(table._table)
    held = [Apply("add", (X[I, K], Const(n + 0.1234, DType.F32))) for n in range(1000)]
    assert len(table._table) >= before + 2000
    del held
    gc.collect()
    assert len(table._table) <= before + 10


def test_a_deep_term_leaves_the_table_too():
    gc.collect()
    before = len(table._table)
    deep = X[I, K]
    for n in range(10_000):
        deep = Apply("add", (deep, Const(float(n) + 0.5, DType.F32)))
    del deep
    gc.collect()
    assert len(table._table) <= before + 10


SCAN = """program p(x: f32[7,5], h: f32[5])
g: f32[5] = scan[t:7](init=[h], xs=[x], captures=[]) {
  program step(c: f32[5], v: f32[5])
  n: f32[5] = L[i:5] c[i] + v[i]
  return n
}
return g"""


def test_stages_over_equal_nested_programs_are_one_object():
    one, other = parse_program(SCAN), parse_program(SCAN)
    assert one.stages[0] is other.stages[0]
    assert one.stages[0] is not parse_program(SCAN.replace("c[i] + v[i]", "c[i] - v[i]")).stages[0]


def test_a_program_pickles_with_its_values_and_origins_however_deep_its_terms():
    body = X[I, K]
    for _ in range(5_000):
        body = Apply("tanh", (body,))
    stage = parse_stage("y: f32[7,5] = L[i:7,k:5] x[i,k]", [X])
    deep = type(stage)(stage.outs, (I, K), (body,))
    program = Program("p", (), (X,), (deep,), deep.outs, constants={"x": [1, 2]}, origins={})
    again = pickle.loads(pickle.dumps(program))
    assert str(again) == str(program)
    assert again.stages[0] is deep
    assert again.constants["x"] == [1, 2]
    assert DENSE is again.inputs[0].structure if again.inputs else DENSE is X.structure
