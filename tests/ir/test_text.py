from __future__ import annotations

import pytest

from tpopt.ir import (
    Alias,
    Apply,
    Builder,
    Compute,
    Const,
    DType,
    Iter,
    Kernel,
    Opaque,
    Program,
    Reduce,
    Scatter,
    Structure,
    Symbol,
    Tensor,
    apply,
    const,
    guard,
    index,
    position,
    tensor,
    total,
)
from tpopt.ir.names import quoted, unquoted
from tpopt.ir.parse import parse_program, parse_stage, parse_term
from tpopt.ir.term_text import print_term
from tpopt.ir.text import print_attribute, print_stage, print_structure, print_tensor

I, J, K = Iter("i", 7), Iter("j", 5), Iter("k", 5)
X, Y = tensor("x", (7,), DType.F32), tensor("y", (7,), DType.F32)
N, B, Z = tensor("n", (7,), DType.I64), tensor("b", (7,), DType.BOOL), tensor("z", (7,), DType.C64)
HALF = tensor("h", (7,), DType.F16)
TENSORS = (X, Y, N, B, Z, HALF)
x, y = X[I], Y[I]

EVERY_STAGE = """program p(x: f32[s0,4], `sum`: i64[s0], flag: bool[], h: f32[4])
symbol s0 in [1, inf]
weight `0.weight`: f32[5]
weight F: c64[12,64] layout "tiled \\"8\\"" structure dft(64, 12, 64, -1)
weight G: f32[12,12] structure kron((3, 4), (1,), diagonal, "q", 1.5)
y: f32[5] = scatter add into `0.weight` L[i:s0] at [`sum`[i]{0:5}] if 1 <= i < 6 { x[i,2] }
hn: f32[4], ys: f32[s0,4] = scan[t:s0](init=[h], xs=[x], captures=[]) {
  program body(h: f32[4], x_t: f32[4])
  symbol t in [0, inf]
  nh: f32[4] = L[i0:4] h[i0] * 0.5 + x_t[i0]
  ny: f32[4] = L[i0:4] nh[i0] * f32(t)
  return nh, ny
}
c: f32[4] = cond(flag, captures=[h]) {
  program then(h: f32[4])
  return h
} else {
  program otherwise(h: f32[4])
  m: f32[4] = L[i:4] -h[i]
  return m
}
sv: f32[s0,4], si: i64[s0,4] = sort(x, axis=1, descending=true, stable=false)
tv: f32[s0,2], ti: i64[s0,2] = topk(x, k=2, axis=1, largest=true, sorted=true)
ko: f32[s0] = kernel "onednn linear"(x, relu=true, alpha=1.5, note="a\\"b", n=none) layouts ["NC", ""] defines {
  k.t: f32[s0] = L[i0:s0] sum[k:4]{ x[i0,k] }
  ko: f32[s0] = L[i:s0] -k.t[i]
}
kn: f32[s0] = kernel copy(ko)
o: f32[4] = opaque aten.foo.default(x, (1, (2.5,), (), (0.0+1.0j), f32, inf, -3, -0.0), "s", @(2*s0+1), format=none)
none = effectful opaque "odd name"(true)
m: f32[s0], am: i64[s0] = L[i:s0] argmax[k:4].0{ x[i,k], k }, argmax[k:4].1{ x[i,k], k }
return y, hn
alias 0 -> `0.weight`
alias 1 -> h"""


def test_every_kind_of_stage_prints_and_reads_back():
    program = parse_program(EVERY_STAGE).validate()
    assert str(program) == EVERY_STAGE
    again = parse_program(str(program))
    assert (again.inputs, again.weights, again.stages) == (program.inputs, program.weights, program.stages)
    assert (again.outputs, again.aliases, again.symbols) == (program.outputs, program.aliases, program.symbols)


def test_a_program_prints_its_parts_in_order():
    s = Symbol("s0", 1, 1024)
    inside, w = tensor("a", (s, 3), DType.F32), tensor("w", (3,), DType.F32)
    b = Builder(["a", "w"])
    out = b.compute("out", (s,), lambda i: total((Iter("c", 3),), inside[i, Iter("c", 3)] * w[Iter("c", 3)]))
    program = Program("net", (inside,), (w,), tuple(b.stages), (out,), (Alias(0, "a"),), (s,))
    assert str(program) == (
        "program net(a: f32[s0,3])\n"
        "symbol s0 in [1, 1024]\n"
        "weight w: f32[3]\n"
        "out: f32[s0] = L[i0:s0] sum[c:3]{ a[i0,c] * w[c] }\n"
        "return out\n"
        "alias 0 -> a"
    )


def test_a_program_without_stages_or_outputs():
    assert str(Program("empty", (), (), (), ())) == "program empty()\nreturn"
    assert parse_program("program empty() return").outputs == ()


INFIX = [
    (x + y + x, "(x[i] + y[i]) + x[i]"),
    (Apply("add", (x, y, x)), "x[i] + y[i] + x[i]"),
    (Apply("add", (x, Apply("add", (y, x)))), "x[i] + (y[i] + x[i])"),
    (x - y - x, "x[i] - y[i] - x[i]"),
    (x - (y - x), "x[i] - (y[i] - x[i])"),
    (x - y + x, "x[i] - y[i] + x[i]"),
    (x + y - x, "x[i] + y[i] - x[i]"),
    (x * y / x, "x[i] * y[i] / x[i]"),
    (x / y * x, "x[i] / y[i] * x[i]"),
    (x / (y * x), "x[i] / (y[i] * x[i])"),
    (x * (y + x), "x[i] * (y[i] + x[i])"),
    (x * y + x, "x[i] * y[i] + x[i]"),
    (-x * y, "-x[i] * y[i]"),
    (-(x * y), "-(x[i] * y[i])"),
    (x - -y, "x[i] - -y[i]"),
    (apply("neg", -x), "--x[i]"),
    (-const(1.5, DType.F32) + x, "-(1.5) + x[i]"),
    (x * -1.5, "x[i] * -1.5"),
    (apply("lt", x, y + 1), "x[i] < y[i] + 1.0"),
    (apply("eq", apply("lt", x, y), apply("ge", x, y)), "(x[i] < y[i]) == (x[i] >= y[i])"),
    (Apply("and", (apply("ne", x, 0), apply("le", y, 1))), "and(x[i] != 0.0, y[i] <= 1.0)"),
    (Apply("max", (x, y, x)), "max(x[i], y[i], x[i])"),
    (Reduce("max", (K,), (X[K],)) + x, "max[k:5]{ x[k] } + x[i]"),
]


@pytest.mark.parametrize(("term", "text"), INFIX, ids=[t for _, t in INFIX])
def test_infix_operators_have_the_parentheses_they_need(term, text: str):
    assert print_term(term) == text
    assert parse_term(text, TENSORS, (I,)) is term


LITERALS = [
    (x * 0.1, "x[i] * 0.1"),
    (x * 1, "x[i] * 1.0"),
    (x + float("inf"), "x[i] + inf"),
    (x - float("-inf"), "x[i] - -inf"),
    (x + float("nan"), "x[i] + nan"),
    (x * -0.0, "x[i] * -0.0"),
    (x * 1e-30, "x[i] * 1e-30"),
    (x * 1e22, "x[i] * 1e+22"),
    (N[I] + -3, "n[i] + -3"),
    (Apply("and", (B[I], const(True, DType.BOOL))), "and(b[i], true)"),
    (Z[I] * 2, "z[i] * 2.0"),
    (Z[I] * (1 - 2j), "z[i] * (1.0-2.0j)"),
    (Z[I] + complex(-0.0, -0.0), "z[i] + (-0.0-0.0j)"),
    (Z[I] + complex(float("-inf"), float("nan")), "z[i] + (-inf+nanj)"),
    (apply("complex", const(1, DType.F32), const(2, DType.F32)), "complex(1.0:f32, 2.0:f32)"),
    (apply("complex", x, 2), "complex(x[i], 2.0)"),
    (const(1.5, DType.F16), "1.5:f16"),
    (const(2, DType.C64), "2.0:c64"),
    (apply("lt", const(1, DType.F16), const(2, DType.F16)), "1.0:f16 < 2.0:f16"),
    (apply("lt", const(1, DType.F16) + 2, HALF[I]), "1.0 + 2.0 < h[i]"),
    (apply("abs", const(1j, DType.C64)) + x, "abs((0.0+1.0j):c64) + x[i]"),
    (apply("abs", Z[I] * 2) + x, "abs(z[i] * 2.0) + x[i]"),
    (apply("where", B[I], const(1, DType.F32), x), "where(b[i], 1.0, x[i])"),
    (Reduce("argmax", (K,), (const(1, DType.F32), position(K)), 1), "argmax[k:5].1{ 1.0:f32, k }"),
    (
        Reduce("welford", (K,), (X[K], const(0, DType.F32), const(1, DType.F32))),
        "welford[k:5].0{ x[k], 0.0:f32, 1.0:f32 }",
    ),
]


@pytest.mark.parametrize(("term", "text"), LITERALS, ids=[t for _, t in LITERALS])
def test_literals_show_their_type_where_nothing_implies_it(term, text: str):
    assert print_term(term) == text
    assert parse_term(text, TENSORS, (I,)) is term


def test_the_declared_type_implies_that_of_bare_literals():
    out = tensor("o", (7,), DType.F16)
    stage = Compute((out,), (I,), (apply("max", const(1, DType.F16), const(2, DType.F16)),))
    assert print_stage(stage) == "o: f16[7] = L[i:7] max(1.0, 2.0)"
    assert parse_stage(print_stage(stage), ()) is stage


POSITIONS = [
    (position(I), "i"),
    (position(2 * I + 1), "@(2*i+1)"),
    (position(I // 2), "@(i//2)"),
    (position(I, DType.F32) * x, "f32(i) * x[i]"),
]


@pytest.mark.parametrize(("term", "text"), POSITIONS, ids=[t for _, t in POSITIONS])
def test_positions(term, text: str):
    assert print_term(term) == text
    assert parse_term(text, TENSORS, (I,)) is term


NAMES = ["x", "a.b_1", "0.weight", "sum", "f32", "inf", "nanj", "true", "none", "a b", "a`b", 'a"\\\n', "é", ""]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_written(name: str):
    assert unquoted(quoted(name)) == name
    if not name:
        return
    source, out = tensor(name, (7,), DType.F32), tensor(f"{name}2", (7,), DType.F32)
    loop, symbol = Iter(name, 7), Symbol(f"{name}3", 1, 9)
    stage = Compute((out,), (loop,), (source[loop] * position(loop * symbol, DType.F32),))
    program = Program(name, (source,), (), (stage,), (out,), (Alias(0, name),), (symbol,)).validate()
    again = parse_program(str(program))
    assert str(again) == str(program)
    assert again.stages == program.stages


def test_what_needs_no_quotes_has_none():
    assert [n for n in NAMES if quoted(n) == n] == ["x", "a.b_1"]


CONTEXTUAL = [
    "weight",
    "symbol",
    "return",
    "alias",
    "program",
    "let",
    "layout",
    "structure",
    "defines",
    "layouts",
    "L",
    "if",
]


@pytest.mark.parametrize("name", CONTEXTUAL)
def test_words_of_the_grammar_may_name_tensors(name: str):
    out, extra = tensor(name, (7,), DType.F32), tensor("w", (3,), DType.F32)
    again = Compute((tensor(f"{name}2", (7,), DType.F32),), (I,), (out[I],))
    program = Program("p", (X,), (extra,), (Compute((out,), (I,), (x,)), again), (out,), (Alias(0, "x"),))
    assert parse_program(str(program)).stages == program.stages


def test_a_long_shared_part_is_printed_once():
    shared = apply("exp", x * y + x * 2.0 - y * 3.0)
    stage = Compute((tensor("o", (7,), DType.F32),), (I,), (shared * shared + apply("tanh", shared),))
    assert print_stage(stage) == (
        "o: f32[7] = L[i:7]\n  let $0: f32 = exp(x[i] * y[i] + x[i] * 2.0 - y[i] * 3.0) in\n  $0 * $0 + tanh($0)"
    )
    assert parse_stage(print_stage(stage), TENSORS) is stage


def test_a_shared_part_names_the_iterators_that_are_bound_where_it_is_used():
    inside = apply("exp", X[K] * y + X[K] * 2.0 - y * 3.0)
    body = total((K,), inside * inside) + Reduce("max", (K,), (inside,))
    stage = Compute((tensor("o", (7,), DType.F32),), (I,), (body,))
    assert print_stage(stage).split("\n")[1] == "  let $0[k:5]: f32 = exp(x[k] * y[i] + x[k] * 2.0 - y[i] * 3.0) in"
    assert parse_stage(print_stage(stage), TENSORS) is stage


def test_text_grows_with_the_graph_not_with_the_tree():
    term = x
    for n in range(60):
        term = apply("sin", term * term + float(n))
    stage = Scatter(tensor("o", (7,), DType.F32), Y, "add", (I,), (index(I),), term, guard((1, I, 5)))
    assert len(print_stage(stage)) < 3_000
    assert print_stage(stage).startswith(
        "o: f32[7] = scatter add into y L[i:7] at [i] if 1 <= i < 5 {\n  let $0: f32 = "
    )
    assert parse_stage(print_stage(stage), TENSORS) is stage


@pytest.mark.parametrize(
    "step", [lambda t: -t, lambda t: x - (y - t), lambda t: apply("max", t, 1.0), lambda t: t * y + x]
)
def test_deep_terms_print_and_read_back(step):
    term = x
    for _ in range(10_000):
        term = step(term)
    stage = Compute((tensor("o", (7,), DType.F32),), (I,), (term,))
    assert parse_stage(print_stage(stage), TENSORS) is stage


def test_declarations_structures_and_attributes():
    assert print_tensor(Tensor("w", (3, 4), DType.BF16, "OI8")) == 'w: bf16[3,4] layout "OI8"'
    assert print_structure(Structure("kron", ((3, 4), Structure("one_hot", (0, 2))))) == "kron((3, 4), one_hot(0, 2))"
    assert str(Structure("low_rank", (4,))) == "low_rank(4)"
    assert print_attribute((None, True, -2, 1.0, 1j, "a", DType.I8, index(I), X, ())) == (
        '(none, true, -2, 1.0, (0.0+1.0j), "a", i8, @(i), x, ())'
    )
    assert print_stage(Opaque((), "aten.f", (1,))) == "none = opaque aten.f(1)"
    assert print_term(Const(True, DType.BOOL)) == "true"


def test_parameters_may_speak_of_two_iterators_of_one_name():
    x, y = Tensor("x", (5,), DType.F32), Tensor("y", (5,), DType.F32)
    i, other = Iter("i", 5), Iter("i", 7)
    copy = Compute((y,), (i,), (x.at((i,)),))
    parameters = (("loops", (index(i), index(other) * 2)), ("rows", 3))
    program = Program("p", (x,), (), (Kernel((y,), "k", (x,), (copy,), parameters),), (y,))
    assert "kernel k[i:5,i0=i:7](x, loops=(@(i), @(2*i0)), rows=3)" in str(program)
    assert parse_program(str(program)).stages[0] is program.stages[0]
