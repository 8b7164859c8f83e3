from __future__ import annotations

from dataclasses import replace

import pytest

from tpopt.errors import InvalidProgram
from tpopt.ir import Alias, Compute, DType, Iter, Kernel, Opaque, Program, Reduce, Scatter, Symbol, guard, index, tensor
from tpopt.ir.parse import parse_program

X, Y, Z = (tensor(n, (7, 5), DType.F32) for n in "xyz")
I, K = Iter("i", 7), Iter("k", 5)
S = Symbol("s0", 1, 9)
V = tensor("v", (S,), DType.F32)
COPY = Compute((Y,), (I, K), (X[I, K],))
GOOD = Program("p", (X,), (), (COPY,), (Y,))

SCAN = """program p(x: f32[7,5], h: f32[5], c: f32[2])
g: f32[5], s: f32[7,5] = scan[t:7](init=[h], xs=[x], captures=[c]) {
  program step(a: f32[5], b: f32[5], d: f32[2])
  symbol t in [0, 6]
  n: f32[5] = L[i:5] a[i] + b[i] * d[0] * f32(t)
  return n, n
}
return g, s"""
COND = """program p(x: f32[7,5], flag: bool[])
y: f32[7,5] = cond(flag, captures=[x]) {
  program then(a: f32[7,5])
  return a
} else {
  program otherwise(b: f32[7,5])
  return b
}
return y"""
SORT = """program p(x: f32[7,5])
v: f32[7,5], n: i64[7,5] = sort(x, axis=1, descending=false, stable=true)
return v"""
TOPK = """program p(x: f32[7,5])
v: f32[7,3], n: i64[7,3] = topk(x, k=3, axis=1, largest=true, sorted=true)
return v"""
KERNEL = """program p(x: f32[7,5])
y: f32[7] = kernel "rows"(x) layouts ["", ""] defines {
  t: f32[7] = L[i:7] sum[k:5]{ x[i,k] }
  y: f32[7] = L[i:7] exp(t[i])
}
return y"""


@pytest.mark.parametrize("text", [SCAN, COND, SORT, TOPK, KERNEL])
def test_well_formed_stages_pass(text: str):
    program = parse_program(text)
    assert program.validate() is program


def term(body, loops=(I, K)) -> Program:
    return replace(GOOD, stages=(Compute((Y,), loops, (body,)),))


A, T, R = Iter("a", 3), Iter("t", 7), Iter("i", 5)
INSIDE = Reduce("sum", (K,), (X[I, K],))
BROKEN = [
    (replace(GOOD, inputs=(X, X)), "tensor x is defined twice"),
    (replace(GOOD, stages=(COPY, COPY)), "tensor y is defined twice"),
    (replace(GOOD, stages=()), "output y: f32[7,5] is not defined by any stage, input or weight"),
    (replace(GOOD, inputs=()), "stage y reads x: f32[7,5], which is not defined before it"),
    (
        replace(GOOD, inputs=(tensor("x", (9,), DType.F32),)),
        "stage y reads x: f32[7,5], which is defined as x: f32[9]",
    ),
    (replace(GOOD, aliases=(Alias(1, "x"),)), "alias of output 1 to 'x': no such output or tensor"),
    (replace(GOOD, aliases=(Alias(0, "q"),)), "alias of output 0 to 'q': no such output or tensor"),
    (term(X[I, A]), "stage y: iterator a:3 is not bound by a loop or a reduction"),
    (term(Reduce("sum", (A,), (X[I, A],)) * X[0, A]), "stage y: iterator a:3 is not bound by a loop or a reduction"),
    (
        term(Reduce("sum", (R,), (X[0, R],))),
        "stage y: two of its iterators and symbols share the name 'i'",
    ),
    (term(INSIDE), "stage y: iterator k:5 is bound twice, one binding inside the other"),
    (
        term(Reduce("sum", (A,), (Reduce("max", (A,), (X[A, 0],)),))),
        "stage y: iterator a:3 is bound twice, one binding inside the other",
    ),
    (replace(GOOD, inputs=(X, V)), "tensor v: symbol s0 in [1, 9] is not among the program's symbols"),
    (
        replace(GOOD, inputs=(X, V), symbols=(Symbol("s0", 0, 9),)),
        "tensor v: symbol s0 in [1, 9] is not among the program's symbols",
    ),
    (term(X[I, K + S]), "stage y: symbol s0 in [1, 9] is not among the program's symbols"),
    (
        term(Reduce("sum", (Iter("a", index(S)),), (X[I, K],))),
        "stage y: symbol s0 in [1, 9] is not among the program's symbols",
    ),
    (
        replace(GOOD, symbols=(Symbol("i", 0, 3),)),
        "stage y: two of its loops and symbols share a name: ['i:7', 'k:5']",
    ),
    (
        replace(GOOD, stages=(Opaque((Y,), "aten.f.default", (X, (S + 1,))),)),
        "stage y: symbol s0 in [1, 9] is not among the program's symbols",
    ),
    (
        replace(GOOD, stages=(Scatter(Y, X, "add", (I,), (index(I), index(A)), X[I, 0]),)),
        "stage y: iterator a:3 is not bound by a loop or a reduction",
    ),
    (
        replace(GOOD, stages=(Scatter(Y, X, "add", (I,), (index(I), index(0)), X[I, 0], guard((1, A, 2))),)),
        "stage y: iterator a:3 is not bound by a loop or a reduction",
    ),
    (
        replace(GOOD, stages=(Kernel((Y,), "copy", (X,), (Compute((Z,), (I, K), (X[I, K],)),)),)),
        "kernel y: its algebra does not define y",
    ),
]


@pytest.mark.parametrize(("program", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_broken_programs_are_refused(program: Program, message: str):
    with pytest.raises(InvalidProgram) as caught:
        program.validate()
    assert str(caught.value) == message


EDITED = [
    (SCAN, "g: f32[5]", "g: f32[6]", "scan g, s: carry 0 is h: f32[5], expected f32[6]"),
    (SCAN, "init=[h]", "init=[c]", "scan g, s: carry 0 is c: f32[2], expected f32[5]"),
    (SCAN, "xs=[x]", "xs=[h]", "scan g, s: slice b is h: f32[5], expected f32[7,5]"),
    (SCAN, "s: f32[7,5]", "s: f32[6,5]", "scan g, s: slice n is s: f32[6,5], expected f32[7,5]"),
    (SCAN, "captures=[c]", "captures=[h]", "scan g, s: capture d is h: f32[5], expected f32[2]"),
    (COND, "flag: bool[]", "flag: bool[1]", "cond y: predicate is flag: bool[1], expected bool[]"),
    (COND, "return a", "return a, a", "cond y: branch then takes 1 tensors and yields 2; expected 1 and 1"),
    (COND, "b: f32[7,5]", "b: f32[7,4]", "cond y: b of branch otherwise is x: f32[7,5], expected f32[7,4]"),
    (SORT, "axis=1", "axis=2", "stage v, n: axis 2 of x: f32[7,5] does not exist"),
    (SORT, "v: f32[7,5]", "v: f32[7,4]", "stage v, n: values is v: f32[7,4], expected f32[7,5]"),
    (SORT, "n: i64[7,5]", "n: i32[7,5]", "stage v, n: positions is n: i32[7,5], expected i64[7,5]"),
    (TOPK, "k=3", "k=2", "stage v, n: values is v: f32[7,3], expected f32[7,2]"),
    (KERNEL, '["", ""]', '["", "", ""]', "kernel y: 3 layouts for 2 tensors"),
    (
        KERNEL,
        "exp(t[i])",
        "exp(t[0]) + sum[i:3]{ t[i] }",
        "stage y: two of its iterators and symbols share the name 'i'",
    ),
]


@pytest.mark.parametrize(("text", "old", "new", "message"), EDITED, ids=[m for *_, m in EDITED])
def test_stages_with_types_that_do_not_fit_are_refused(text: str, old: str, new: str, message: str):
    assert old in text
    with pytest.raises(InvalidProgram) as caught:
        parse_program(text.replace(old, new, 1)).validate()
    assert str(caught.value) == message


def test_sibling_reductions_may_share_an_iterator():
    term(Reduce("sum", (A,), (X[A, 0],)) + Reduce("max", (A,), (X[A, 1],))).validate()


def test_nested_programs_are_checked():
    inner = SCAN.replace("symbol t in [0, 6]\n", "").replace(" * f32(t)", "")
    program = parse_program(inner)
    scan = program.stages[0]
    broken = replace(scan.body, stages=())
    with pytest.raises(InvalidProgram, match=r"output n: f32\[5\] is not defined by any stage"):
        replace(program, stages=(replace(scan, body=broken),)).validate()
