"""The stages that are not Compute, and reductions at the edges: NaN, ties, empty ranges, infinities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tpopt.errors import InvalidProgram, UnsupportedInput
from tpopt.ir import Opaque, Program, Symbol, tensor
from tpopt.ir.dtypes import DType
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program

NAN, INF = math.nan, math.inf


def run(text: str, *inputs: object, **options: object) -> list[list[float]]:
    found = interpret(parse_program(text).validate(), [np.asarray(i) for i in inputs], **options)  # type: ignore[arg-type]
    return [f.tolist() for f in found]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("set", [14.0, 13.0, 0.5, 1.0]),
        ("add", [14.5, 35.0, 0.5, 1.0]),
        ("mul", [7.0, 1430.0, 0.5, 1.0]),
        ("max", [14.0, 13.0, 0.5, 1.0]),
        ("min", [0.5, 1.0, 0.5, 1.0]),
    ],
)
def test_a_scatter_writes_in_order_where_its_guard_holds(op: str, expected: list[float]):
    text = f"scatter {op} into x L[i:5] at [t[i]{{-9:9}}] if 0 <= t[i]{{-9:9}} < 4 & 0 <= i < 5 {{ v[i] }}"
    program = f"program p(x: f64[4], t: i64[5], v: f64[5])\ny: f64[4] = {text}\nreturn y"
    x, t, v = [0.5, 1.0, 0.5, 1.0], [1, 1, -7, 1, 0], [10.0, 11.0, 12.0, 13.0, 14.0]
    assert run(program, x, t, v)[0] == expected


def test_the_last_of_many_writers_wins():
    text = "program p(x: f64[1], v: f64[5000])\ny: f64[1] = scatter set into x L[i:5000] at [0] { v[i] }\nreturn y"
    assert run(text, np.zeros(1), np.arange(5000.0)) == [[4999.0]]


def test_a_scatter_out_of_bounds_is_a_defect_of_the_program():
    text = "program p(x: f64[4])\ny: f64[4] = scatter add into x L[i:4] at [i+1] { 1.0 }\nreturn y"
    with pytest.raises(InvalidProgram, match=r"stage y: scatters to \[4\], outside \[4\]; guard it"):
        run(text, np.zeros(4))


def test_a_scatter_checks_only_the_lookups_that_it_writes_with():
    text = "y: f64[4] = scatter add into x L[i:2] at [t[i]{0:4}] if 0 <= i < last { 1.0 }"
    program = "program p(x: f64[4], t: i64[2])\n" + text.replace("last", "1") + "\nreturn y"
    assert run(program, np.zeros(4), [3, -1]) == [[0.0, 0.0, 0.0, 1.0]]
    with pytest.raises(UnsupportedInput, match=r"t\[1\] is -1; stage y needs values in \[0, 4\)"):
        run("program p(x: f64[4], t: i64[2])\n" + text.replace("last", "2") + "\nreturn y", np.zeros(4), [3, -1])


SCAN = """program p(c: f64[2], xs: f64[T,2], w: f64[2])
symbol T in [0, inf]
h: f64[2], ys: f64[T,2] = scan[t:T](init=[c], xs=[xs], captures=[w]) {
  program step(h0: f64[2], x: f64[2], w0: f64[2])
  symbol t in [0, 100]
  h1: f64[2] = L[i:2] h0[i] * w0[i] + x[i]
  y: f64[2] = L[i:2] h1[i] * f64(t)
  return h1, y
}
return h, ys"""


def test_a_scan_carries_stacks_and_reads_its_step():
    h, ys = run(SCAN, [1.0, 2.0], [[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], [2.0, 0.5])
    assert (h, ys) == ([12.0, 0.75], [[0.0, 0.0], [5.0, 1.5], [24.0, 1.5]])


def test_a_scan_of_no_steps_passes_its_state_on():
    assert run(SCAN, [1.0, 2.0], np.zeros((0, 2)), [2.0, 0.5]) == [[1.0, 2.0], []]


@pytest.mark.parametrize(("predicate", "expected"), [(True, [2.0, 3.0]), (False, [1.0, 2.0])])
def test_a_conditional_runs_one_branch(predicate: bool, expected: list[float]):
    text = """program p(q: bool[], x: f64[2])
    y: f64[2] = cond(q, captures=[x]) {
      program yes(a: f64[2])
      b: f64[2] = L[i:2] a[i] + 1.0
      return b
    } else {
      program no(a: f64[2])
      return a
    }
    return y"""
    assert run(text, predicate, [1.0, 2.0]) == [expected]


@pytest.mark.parametrize(("descending", "expected"), [("false", [2, 4, 0, 3, 1]), ("true", [1, 0, 3, 2, 4])])
def test_a_sort_is_stable_and_nan_is_the_greatest(descending: str, expected: list[int]):
    text = f"v: f64[5], i: i64[5] = sort(x, axis=0, descending={descending}, stable=true)"
    values, order = run(f"program p(x: f64[5])\n{text}\nreturn v, i", [2.0, NAN, 1.0, 2.0, 1.0])
    assert order == expected
    assert [str(v) for v in values] == [str([2.0, NAN, 1.0, 2.0, 1.0][n]) for n in expected]


@pytest.mark.parametrize(("largest", "expected"), [("true", [1, 0, 3]), ("false", [2, 4, 0])])
def test_topk_takes_the_first_of_equals(largest: str, expected: list[int]):
    text = f"v: f64[3], i: i64[3] = topk(x, k=3, axis=0, largest={largest}, sorted=true)"
    assert run(f"program p(x: f64[5])\n{text}\nreturn i", [2.0, NAN, 1.0, 2.0, 1.0]) == [expected]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [([4, 2, 0], [4, 2, 0]), ([0, 4, 3], [2, 4, 0]), ([4, 3, 0], [2, 4, 0])],
    ids=["other equals", "not the best", "one of them is not"],
)
def test_topk_leaves_the_choice_among_equals_alone_to_the_hook(chosen: list[int], expected: list[int]):
    text = "program p(x: f64[5])\nv: f64[3], i: i64[3] = topk(x, k=3, axis=0, largest=false, sorted=true)\nreturn v, i"
    x = [2.0, NAN, 1.0, 2.0, 1.0]
    values, positions = run(text, x, top=lambda _stage, _source, k: np.asarray(chosen[:k]))
    assert positions == expected
    assert values == [x[n] for n in expected]


def test_a_kernel_is_its_algebra_and_its_own_names_stay_inside():
    text = """program p(x: f64[2,3], w: f64[3,4])
    y: f64[2,4] = kernel gemm(x, w) defines {
      t: f64[2,4] = L[i:2,j:4] sum[k:3]{ x[i,k] * w[k,j] }
      y: f64[2,4] = L[i:2,j:4] max(t[i,j], 0.0)
    }
    t: f64[2,4] = L[i:2,j:4] y[i,j] + 1.0
    return t"""
    x = np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
    assert run(text, x, np.eye(3, 4)) == [[[2.0, 3.0, 4.0, 1.0], [1.0, 1.0, 2.0, 1.0]]]


def test_a_kernel_without_algebra_is_refused():
    text = "program p(x: f64[2])\ny: f64[2] = kernel secret(x) defines {\n}\nreturn y"
    with pytest.raises(InvalidProgram, match=r"kernel y \(secret\) carries no algebra"):
        run(text, [1.0, 2.0])


def opaque_program() -> Program:
    count = Symbol("u0", 0, None)
    x, y = tensor("x", (4,), DType.F32), tensor("y", (count,), DType.F32)
    return Program("p", (x,), (), (Opaque((y,), "aten.nonzero_values.default", (x,)),), (y,), symbols=(count,))


def test_an_opaque_call_goes_to_the_hook_and_binds_the_symbols_of_its_outputs():
    def hook(stage: Opaque, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        assert (stage.target, arrays[0].dtype, arrays[0].flags.writeable) == (
            "aten.nonzero_values.default",
            np.float64,
            True,
        )
        return (arrays[0][arrays[0] != 0].astype(np.float32),)

    (y,) = interpret(opaque_program(), [np.array([0.0, 3.0, 0.0, 5.0], np.float32)], opaque=hook)
    assert (y.tolist(), y.dtype) == ([3.0, 5.0], np.float64)


def test_an_opaque_call_without_a_hook_says_what_to_pass():
    with pytest.raises(UnsupportedInput, match=r"stage y calls aten.nonzero_values.default.*pass opaque= to run it"):
        interpret(opaque_program(), [np.zeros(4)])


def reduced(body: str, values: list[float]) -> list[float]:
    text = f"program p(x: f64[{len(values)}])\ny: f64[] = L[] {body}\nreturn y"
    (found,) = interpret(parse_program(text.replace("N", str(len(values)))), [np.array(values)])
    return [float(found)]


@pytest.mark.parametrize(
    ("body", "values", "expected"),
    [
        ("max[k:N]{ x[k] }", [1.0, NAN, 2.0], NAN),
        ("min[k:N]{ x[k] }", [1.0, NAN, 2.0], NAN),
        ("argmax[k:N].0{ x[k], k }", [1.0, NAN, 2.0], NAN),
        ("f64(argmax[k:N].1{ x[k], k })", [1.0, NAN, NAN], 1.0),
        ("f64(argmin[k:N].1{ x[k], k })", [3.0, 1.0, 1.0], 1.0),
        ("f64(argmax[k:N].1{ x[k], 9-k })", [3.0, 3.0], 8.0),
        ("prod[k:0]{ x[k] }", [2.0], 1.0),
        ("min[k:0]{ x[k] }", [2.0], INF),
        ("argmax[k:0].0{ x[k], k }", [2.0], -INF),
        ("f64(argmax[k:0].1{ x[k], k })", [2.0], float(2**63 - 1)),
        ("welford[k:0].1{ x[k], 0.0:f64, 1.0:f64 }", [2.0], 0.0),
        ("welford[k:N].1{ x[k], 0.0:f64, 1.0:f64 }", [1e9, 1e9 + 2.0], 2.0),
        ("logsumexp[k:0].1{ x[k], 1.0:f64 }", [2.0], 0.0),
        ("logsumexp[k:N].1{ x[k], 1.0:f64 }", [-INF, -INF], 2.0),
        ("logsumexp[k:N].1{ x[k], 1.0:f64 }", [1000.0, 1000.0, -INF], 2.0),
        ("f64(any[k:N]{ x[k] > 1.0 })", [1.0, 2.0], 1.0),
        ("f64(all[k:0]{ x[k] > 1.0 })", [1.0, 2.0], 1.0),
    ],
)
def test_reductions_at_the_edges(body: str, values: list[float], expected: float):
    assert str(reduced(body, values)) == str([expected])
