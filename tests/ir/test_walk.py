from __future__ import annotations

import pytest

from tpopt.ir import (
    Apply,
    Const,
    DType,
    Index,
    Iter,
    Lookup,
    Reduce,
    Symbol,
    Tensor,
    guard,
    index,
    select,
    tensor,
    total,
)
from tpopt.ir.parse import parse_program, parse_stage, parse_term
from tpopt.ir.term_text import print_term
from tpopt.ir.walk import (
    children,
    fresh_name,
    freshen,
    is_literal,
    map_indices,
    map_stage_tensors,
    map_tensors,
    own_indices,
    postorder,
    rebuild,
    stage_reads,
    substitute_iters,
    tensors_read,
    with_children,
)

I, J, K, Q = Iter("i", 7), Iter("j", 4), Iter("k", 5), Iter("q", 28)
X, W = tensor("x", (7, 5), DType.F32), tensor("w", (5,), DType.F32)
IDS, PLACES = tensor("ids", (7,), DType.I64), tensor("places", (7,), DType.I64)
TENSORS = (X, W, IDS, PLACES)


def parse(text: str):
    return parse_term(text, TENSORS, (I, J, K, Q), DType.F32)


def test_operands_come_before_their_users_and_once():
    term = parse("(x[i,k] + w[k]) * (x[i,k] + w[k])")
    assert [print_term(t) for t in postorder(term)] == ["x[i,k]", "w[k]", "x[i,k] + w[k]", print_term(term)]


EVERY_KIND = [
    "sum[k:5]{ x[i,k] * 2.0 }",
    "select(1 <= i < 5, x[i,k], w[k])",
    "f32(ids[i])",
    "where(x[i,k] < 0.0, -x[i,k], exp(x[i,k]))",
    "f32(@(2*i+1))",
]


@pytest.mark.parametrize("text", EVERY_KIND)
def test_terms_are_rebuilt_from_their_operands(text: str):
    term = parse(text)
    assert with_children(term, children(term)) is term
    assert rebuild(term, lambda t: t) is term


def test_rebuilding_is_bottom_up():
    seen: list[str] = []
    doubled = rebuild(parse("w[k] + exp(w[k])"), lambda t: (seen.append(type(t).__name__), t)[1])
    assert seen == ["Read", "Apply", "Apply"]
    assert print_term(doubled) == "w[k] + exp(w[k])"
    assert print_term(rebuild(parse("w[k] + exp(w[k])"), lambda t: Const(2.0, DType.F32) if t is W[K] else t)) == (
        "2.0:f32 + exp(2.0:f32)"
    )


SUBSTITUTED = [
    ("x[i,k] * w[k]", {I: Q // 4}, "x[q//4,k] * w[k]"),
    ("f32(@(2*i+1))", {I: J + 1}, "f32(@(2*j+3))"),
    ("select(3 <= i < 9, x[i,k], 0.0)", {I: J + 2}, "select(1 <= j < 7, x[j+2,k], 0.0)"),
    ("select(3 <= i < 9, x[i,k], 0.0)", {I: index(4)}, "x[4,k]"),
    ("w[(i+q)//4]", {Q: 4 * J, I: index(3)}, "w[j]"),
    ("select(1 <= ids[i]{0:5} < 3, w[ids[i]{0:5}], 0.0)", {I: J}, "select(1 <= ids[j]{0:5} < 3, w[ids[j]{0:5}], 0.0)"),
]


@pytest.mark.parametrize(("text", "mapping", "expected"), SUBSTITUTED, ids=[t for t, _, _ in SUBSTITUTED])
def test_substitution_reaches_every_index_and_simplifies(text: str, mapping: dict, expected: str):
    assert print_term(substitute_iters(parse(text), mapping)) == print_term(parse(expected))


def test_fresh_names_are_the_first_that_are_free():
    assert fresh_name("k", {}) == "k"
    assert fresh_name("k", {"k": 0}) == "k0"
    assert fresh_name("k0", {"k0": 0, "k1": 0}) == "k2"
    assert fresh_name("7", {"7": 0}) == "i0"


def test_freshening_renames_bound_iterators_where_they_are_bound_and_read():
    term = parse("sum[k:5]{ x[i,k] * w[k] } + max[j:5]{ w[j] }")
    assert print_term(freshen(term, ["k", "i"])) == "sum[k0:5]{ x[i,k0] * w[k0] } + max[j:5]{ w[j] }"
    assert freshen(term, ["i"]) is term


def test_freshening_captures_nothing_and_keeps_siblings_alike():
    siblings = parse("sum[j:5]{ w[j] } + max[j:5]{ w[j] }")
    assert freshen(siblings, []) is siblings
    assert print_term(freshen(siblings, ["j"])) == "sum[j0:5]{ w[j0] } + max[j0:5]{ w[j0] }"
    free = parse_term("sum[k:5]{ x[k0,k] }", TENSORS, (Iter("k0", 7),))
    assert print_term(freshen(free, ["k"])) == "sum[k1:5]{ x[k0,k1] }"
    apart = parse("sum[a:5]{ w[a] } + sum[a:3]{ w[a] } + sum[a0:3]{ w[a0] }")
    assert print_term(freshen(apart, [])) == "sum[a:5]{ w[a] } + sum[a1:3]{ w[a1] } + sum[a0:3]{ w[a0] }"


def test_tensors_are_replaced_in_reads_lookups_and_guards():
    term = parse("select(1 <= ids[i]{0:5} < 3, x[i,ids[i]{0:5}] * w[(ids[i]{0:5})//2], 0.0)")
    renamed = map_tensors(term, lambda t: Tensor(f"{t.name}2", t.shape, t.dtype))
    expected = "select(1 <= ids2[i]{0:5} < 3, x2[i,ids2[i]{0:5}] * w2[ids2[i]{0:5}//2], 0.0)"
    assert print_term(renamed) == expected


def test_tensors_read_come_in_order_of_appearance():
    term = parse("select(1 <= places[i]{0:5} < 3, x[i,ids[i]{0:5}] * w[k], w[k])")
    assert [t.name for t in tensors_read(term)] == ["x", "ids", "w", "places"]


def test_indices_of_a_term_are_its_own():
    inside = X[I, K]
    chosen = select(guard((1, I, 5)), inside, Const(0.0, DType.F32))
    assert own_indices(chosen) == (index(1), index(I), index(5))
    assert own_indices(inside) == (index(I), index(K))
    assert own_indices(total((K,), inside)) == ()


def test_mapping_indices_proves_guards_again():
    term = select(guard((1, I, 5)), X[I, K], Const(0.0, DType.F32))
    assert map_indices(term, lambda i: index(2) if i is index(I) else i) is X[2, K]


STAGES = """program p(x: f32[7,5], w: f32[5], ids: i64[7], places: i64[7], flag: bool[])
y: f32[7] = L[i:7] sum[k:5]{ x[i,k] * w[k] }
s: f32[5] = scatter add into w L[i:7] at [ids[i]{0:5}] if 1 <= places[i]{0:5} < 3 { y[i] }
h: f32[5], t: f32[7,5] = scan[n:7](init=[w], xs=[x], captures=[s]) {
  program step(a: f32[5], b: f32[5], c: f32[5])
  m: f32[5] = L[i:5] a[i] + b[i] * c[i]
  return m, m
}
c: f32[5] = cond(flag, captures=[s, w]) {
  program then(a: f32[5], b: f32[5])
  return a
} else {
  program otherwise(a: f32[5], b: f32[5])
  return b
}
v: f32[7], u: i64[7] = sort(y, axis=0, descending=false, stable=true)
g: f32[2], r: i64[2] = topk(y, k=2, axis=0, largest=true, sorted=true)
k: f32[7] = kernel "gemv"(x, w) defines {
  k: f32[7] = L[i:7] sum[k:5]{ x[i,k] * w[k] }
}
o: f32[7] = opaque aten.add.Tensor(y, (v, 1), other=k)
return o"""
READS = [
    ["x", "w"],
    ["w", "y", "ids", "places"],
    ["w", "x", "s"],
    ["flag", "s", "w"],
    ["y"],
    ["y"],
    ["x", "w"],
    ["y", "v", "k"],
]


def test_every_stage_tells_what_it_reads():
    program = parse_program(STAGES).validate()
    assert [[t.name for t in stage_reads(s)] for s in program.stages] == READS


def test_tensors_of_every_stage_can_be_renamed():
    program = parse_program(STAGES)
    renamed = [map_stage_tensors(s, lambda t: Tensor(f"{t.name}2", t.shape, t.dtype)) for s in program.stages]
    assert [[t.name for t in stage_reads(s)] for s in renamed] == [[f"{n}2" for n in names] for names in READS]
    assert [o.name for s in renamed for o in s.outs] == [f"{o.name}2" for s in program.stages for o in s.outs]
    back = [map_stage_tensors(s, lambda t: Tensor(t.name.removesuffix("2"), t.shape, t.dtype)) for s in renamed]
    assert back == list(program.stages)


def test_literals_compare_by_value():
    assert is_literal(Const(0.0, DType.F32), 0)
    assert not is_literal(W[K], 0)


def test_walks_do_not_recurse():
    deep = W[K]
    for _ in range(10_000):
        deep = Apply("add", (deep, W[K]))
    renamed = substitute_iters(deep, {K: index(0)})
    assert len(postorder(renamed)) == 10_001
    assert tensors_read(map_tensors(deep, lambda t: X if t is X else t)) == (W,)


def test_symbols_are_replaced_like_iterators():
    s = Symbol("s0", 1, 9)
    table = tensor("table", (9,), DType.I64)
    where = index(Lookup(table, (s - 1,), index(0), index(s)))
    term = Reduce("sum", (I,), (tensor("y", (9,), DType.F32)[where],))
    assert isinstance(where, Index)
    assert print_term(substitute_iters(term, {s: 4})) == "sum[i:7]{ y[table[3]{0:4}] }"


def test_a_stage_reads_each_tensor_once():
    stage = parse_stage("y: f32[5] = L[k:5] w[k] * w[k] + w[0]", TENSORS)
    assert stage_reads(stage) == (W,)
