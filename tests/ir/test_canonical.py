from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tpopt.ir import Apply, Compute, DType, Iter, tensor
from tpopt.ir.canonical import canonical, stage_key, structural_equal, structural_hash
from tpopt.ir.parse import parse_program, parse_stage

BASE = """program net(x: f32[s0,3,9], ids: i64[s0])
symbol s0 in [1, 64]
weight w: f32[4,3,3]
weight b: f32[4]
y: f32[s0,4,7] = L[n:s0,o:4,i:7] sum[c:3,r:3]{ x[n,c,i+r] * w[o,c,r] } + b[o]
z: f32[s0,4,7] = L[n:s0,o:4,i:7] select(1 <= i < 5 & 2 <= o+n < 9, exp(y[n,o,i]), y[ids[n]{0:s0},o,i])
m: f32[s0], a: i64[s0] = L[n:s0] argmax[o:4,i:7].0{ z[n,o,i], @(7*o+i) }, argmax[o:4,i:7].1{ z[n,o,i], @(7*o+i) }
u: f32[s0] = L[n:s0] max(m[n], 0.0) - m[n]
v: f32[s0] = L[n:s0] tanh(m[n])
h: f32[s0] = scatter add into v L[n:s0] at [ids[n]{0:s0}] if 1 <= n < 5 { u[n] * v[n] }
return h, a"""

CANONICAL = """program p(x0: f32[s0,3,9], x1: i64[s0])
symbol s0 in [1, 64]
weight w0: f32[4,3,3]
weight w1: f32[4]"""


def test_the_canonical_form_names_by_place():
    form = canonical(parse_program(BASE)).validate()
    assert str(form).startswith(CANONICAL)
    assert [o.name for s in form.stages for o in s.outs] == [f"t{n}" for n in range(7)]
    assert "sum[k0:3,k1:3]" in str(form)
    assert str(canonical(form)) == str(form)
    assert len(structural_hash(form)) == 32


SAME = [
    ("net(", "other("),
    ("[c:3,r:3]{ x[n,c,i+r] * w[o,c,r] }", "[c:3,r:3]{ w[o,c,r] * x[n,c,i+r] }"),
    ("[c:3,r:3]", "[r:3,c:3]"),
    ("[c:3,r:3]{ x[n,c,i+r] * w[o,c,r] } + b[o]", "[q:3,p:3]{ x[n,p,i+q] * w[o,p,q] } + b[o]"),
    ("sum[c:3,r:3]{ x[n,c,i+r] * w[o,c,r] } + b[o]", "b[o] + sum[c:3,r:3]{ x[n,c,i+r] * w[o,c,r] }"),
    ("1 <= i < 5 & 2 <= o+n < 9", "2 <= n+o < 9 & 1 <= i < 5"),
    ("L[n:s0] max(m[n], 0.0) - m[n]", "L[j:s0] max(0.0, m[j]) - m[j]"),
    ("argmax[o:4,i:7].1{ z[n,o,i], @(7*o+i) }", "argmax[g:7,e:4].1{ z[n,e,g], @(g+7*e) }"),
    ("u[n] * v[n]", "v[n] * u[n]"),
]


@pytest.mark.parametrize(("old", "new"), SAME, ids=[n for _, n in SAME])
def test_names_and_orders_without_meaning_do_not_matter(old: str, new: str):
    assert old in BASE
    assert structural_hash(parse_program(BASE.replace(old, new))) == structural_hash(parse_program(BASE))


@pytest.mark.parametrize(
    ("old", "new"), [("s0", "len"), ("x", "input"), ("y", "conv.out"), ("ids", "table"), ("w", "0.weight")]
)
def test_tensors_and_symbols_may_have_any_name(old: str, new: str):
    other = parse_program(re.sub(rf"\b{old}\b", f"`{new}`", BASE)).validate()
    assert structural_equal(other, parse_program(BASE))


def test_independent_stages_may_come_in_any_order():
    lines = BASE.split("\n")
    swapped = [*lines[:7], lines[8], lines[7], *lines[9:]]
    assert swapped != lines
    assert structural_hash(parse_program("\n".join(swapped))) == structural_hash(parse_program(BASE))


DIFFERENT = [
    ("x[n,c,i+r]", "x[n,c,i+2-r]"),
    ("y[ids[n]{0:s0},o,i]", "y[n,o,i]"),
    ("ids[n]{0:s0},o,i", "ids[n]{0:1},o,i"),
    ("1 <= i < 5 & ", ""),
    ("1 <= i < 5", "1 <= i < 6"),
    ("1 <= i < 5", "0 <= i < 5"),
    ("if 1 <= n < 5 ", ""),
    ("2 <= o+n", "2 <= 2*o+n"),
    ("w[o,c,r]", "w[o,r,c]"),
    ("exp(", "sin("),
    ("sum[c", "prod[c"),
    ("0.0) - m", "-0.0) - m"),
    ("0.0) - m", "1.0) - m"),
    ("max(m[n], 0.0) - m[n]", "m[n] - max(m[n], 0.0)"),
    ("scatter add", "scatter max"),
    ("into v", "into u"),
    ("return h, a", "return a, h"),
    ("return h, a", "return h"),
    ("return h, a", "return h, a alias 0 -> x"),
    ("in [1, 64]", "in [2, 64]"),
    ("weight b: f32[4]", 'weight b: f32[4] layout "n"'),
    ("weight b: f32[4]", "weight b: f32[4] structure symmetric"),
    ("argmax[o:4,i:7].1{ z[n,o,i], @(7*o+i)", "argmax[o:4,i:7].1{ z[n,o,i], @(4*i+o)"),
    ("argmax[o:4,i:7].1", "argmin[o:4,i:7].1"),
    ("x: f32[s0,3,9], ids: i64[s0]", "ids: i64[s0], x: f32[s0,3,9]"),
    ("ids: i64[s0]", "ids: i32[s0]"),
]


@pytest.mark.parametrize(("old", "new"), DIFFERENT, ids=[n or o for o, n in DIFFERENT])
def test_every_change_of_meaning_changes_the_hash(old: str, new: str):
    assert old in BASE
    changed = parse_program(BASE.replace(old, new)).validate()
    assert structural_hash(changed) != structural_hash(parse_program(BASE))
    assert not structural_equal(changed, parse_program(BASE))


NESTED = """program p(x: f32[7,5], h: f32[5], g: bool[])
r: f32[5], s: f32[7,5] = scan[t:7](init=[h], xs=[x], captures=[]) {
  program step(a: f32[5], b: f32[5])
  symbol t in [0, 6]
  e: f32[5] = L[i:5] exp(b[i])
  f: f32[5] = L[i:5] sin(b[i])
  n: f32[5] = L[i:5] a[i] + e[i] * f[i] * f32(t)
  return n, e
}
c: f32[5] = cond(g, captures=[r]) {
  program yes(a: f32[5])
  m: f32[5] = L[i:5] -a[i]
  return m
} else {
  program no(a: f32[5])
  return a
}
k: f32[5] = kernel gelu(c, exact=true) layouts ["", "n"] defines {
  q: f32[5] = L[i:5] erf(c[i])
  k: f32[5] = L[i:5] q[i] * c[i]
}
v: f32[5], p: i64[5] = sort(k, axis=0, descending=false, stable=true)
w: f32[2], z: i64[2] = topk(k, k=2, axis=0, largest=true, sorted=true)
none = effectful opaque aten.print(k, "a")
none = effectful opaque aten.print(k, "b")
o: f32[5] = opaque aten.rand(@(3), w, seed=1)
return o, s, v, z"""

NESTED_SAME = [
    ("program step(", "program other("),
    ("symbol t in", "symbol t in"),
    (
        "e: f32[5] = L[i:5] exp(b[i])\n  f: f32[5] = L[i:5] sin(b[i])",
        "f: f32[5] = L[j:5] sin(b[j])\n  e: f32[5] = L[i:5] exp(b[i])",
    ),
    ("m: f32[5] = L[i:5] -a[i]\n  return m", "private: f32[5] = L[q:5] -a[q]\n  return private"),
    (
        "q: f32[5] = L[i:5] erf(c[i])\n  k: f32[5] = L[i:5] q[i] * c[i]",
        "e: f32[5] = L[i:5] erf(c[i])\n  k: f32[5] = L[j:5] c[j] * e[j]",
    ),
]


@pytest.mark.parametrize(("old", "new"), NESTED_SAME, ids=[n for _, n in NESTED_SAME])
def test_nested_programs_are_canonical_too(old: str, new: str):
    assert old in NESTED
    changed = parse_program(NESTED.replace(old, new)).validate()
    assert str(canonical(changed).validate()) == str(canonical(parse_program(NESTED)))
    assert str(canonical(canonical(changed))) == str(canonical(changed))


def test_the_step_of_a_scan_may_have_any_name():
    renamed = (
        NESTED.replace("[t:7]", "[step:7]").replace("symbol t in", "symbol step in").replace("f32(t)", "f32(step)")
    )
    assert structural_equal(parse_program(renamed).validate(), parse_program(NESTED))


NESTED_DIFFERENT = [
    ("e[i] * f[i]", "e[i] * e[i]"),
    ("* f32(t)", ""),
    ("return n, e", "return n, f"),
    ("return a\n", "b: f32[5] = L[i:5] a[i] * 1.0\n  return b\n"),
    ("gelu", "silu"),
    ("exact=true", "exact=false"),
    ('["", "n"]', '["n", ""]'),
    ("erf(c", "tanh(c"),
    ("descending=false", "descending=true"),
    ("stable=true", "stable=false"),
    ("largest=true", "largest=false"),
    ('"a"', '"c"'),
    ("seed=1", "seed=1.0"),
    ("@(3)", "3"),
    ("effectful opaque aten.print(k, \"a\")", "opaque aten.print(k, \"a\")"),
    (
        'none = effectful opaque aten.print(k, "a")\nnone = effectful opaque aten.print(k, "b")',
        'none = effectful opaque aten.print(k, "b")\nnone = effectful opaque aten.print(k, "a")',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), NESTED_DIFFERENT, ids=[n or o for o, n in NESTED_DIFFERENT])
def test_every_change_inside_a_stage_changes_the_hash(old: str, new: str):
    assert old in NESTED
    changed = parse_program(NESTED.replace(old, new)).validate()
    assert structural_hash(changed) != structural_hash(parse_program(NESTED))


TWINS = """program p(x: f32[7])
a: f32[7] = L[i:7] exp(x[i])
b: f32[7] = L[i:7] exp(x[i])
c: f32[7] = L[i:7] a[i] - 1.0
d: f32[7] = L[i:7] b[i] * b[i] + a[i]
return d, c"""


def test_equal_computations_are_told_apart_by_their_use():
    swapped = TWINS.replace("a[i]", "q[i]").replace("b[i]", "a[i]").replace("q[i]", "b[i]")
    one, other = parse_program(TWINS), parse_program(swapped)
    assert structural_hash(one) == structural_hash(other)
    merged = TWINS.replace("b[i]", "a[i]")
    assert structural_hash(parse_program(merged)) != structural_hash(one)


def test_unused_stages_count_wherever_they_stand():
    dead = "q: f32[7] = L[i:7] sin(x[i])\n"
    first, last = TWINS.replace("a:", f"{dead}a:"), TWINS.replace("return", f"{dead}return")
    assert structural_hash(parse_program(first)) == structural_hash(parse_program(last))
    assert structural_hash(parse_program(first)) != structural_hash(parse_program(TWINS))


def test_sibling_and_nested_reductions_are_named_by_their_place():
    text = "program p(x: f32[7,7]) y: f32[] = L[] {} return y"
    one = text.replace("{}", "sum[a:7]{ max[b:7]{ x[a,b] } } + sum[a:7,b:7]{ x[a,b] * x[b,a] }")
    other = text.replace("{}", "sum[q:7,p:7]{ x[q,p] * x[p,q] } + sum[c:7]{ max[d:7]{ x[c,d] } }")
    assert str(canonical(parse_program(one))) == str(canonical(parse_program(other)))
    swapped = one.replace("max[b:7]{ x[a,b] }", "max[b:7]{ x[b,a] }")
    assert structural_hash(parse_program(swapped)) != structural_hash(parse_program(one))


W, A = tensor("w", (5, 5), DType.F32), tensor("a", (5, 5), DType.F32)
KEYS = [
    "y: f32[5] = L[i:5] sum[k:5]{ a[i,k] * w[k,i] }",
    "out: f32[5] = L[j:5] sum[q:5]{ a[q,j] * w[j,q] }",
    "y: f32[5] = L[i:5] sum[k:5]{ w[i,k] * a[k,i] }",
]


def test_a_stage_key_holds_types_and_no_names():
    key = stage_key(parse_stage(KEYS[0], [W, A]))
    assert key == (
        "program p(x0: f32[5,5], x1: f32[5,5])\nt0: f32[5] = L[i0:5] sum[k0:5]{ x0[k0,i0] * x1[i0,k0] }\nreturn t0"
    )
    assert [stage_key(parse_stage(text, [W, A])) for text in KEYS] == [key] * 3


OTHER_KEYS = [
    "y: f32[5] = L[i:5] sum[k:5]{ a[i,k] * w[i,k] }",
    "y: f32[5] = L[i:5] sum[k:5]{ a[i,k] * a[k,i] }",
    "y: f32[5] = L[i:5] sum[k:5]{ a[i,k] - w[k,i] }",
    'y: f32[5] layout "n" = L[i:5] sum[k:5]{ a[i,k] * w[k,i] }',
]


@pytest.mark.parametrize("text", OTHER_KEYS)
def test_another_stage_has_another_key(text: str):
    assert stage_key(parse_stage(text, [W, A])) != stage_key(parse_stage(KEYS[0], [W, A]))


def test_the_key_of_a_stage_that_subtracts_keeps_the_order():
    keys = [stage_key(parse_stage(f"y: f32[5] = L[i:5] {t}", [W, A])) for t in ("a[i,0] - w[i,0]", "w[i,0] - a[i,0]")]
    assert keys[0] == keys[1]
    assert "x0[i0,0] - x1[i0,0]" in keys[0]


def test_keys_hold_layouts_of_what_is_read():
    tiled = parse_program('program p() weight w: f32[5,5] layout "8" weight a: f32[5,5] return').weights
    assert stage_key(parse_stage(KEYS[0], tiled)) != stage_key(parse_stage(KEYS[0], [W, A]))


def test_deep_terms_have_a_key():
    term = A[Iter("i", 5), 0]
    for n in range(5_000):
        term = Apply("add", (term, A[Iter("i", 5), 0])) if n % 2 else Apply("tanh", (term,))
    stage = Compute((tensor("y", (5,), DType.F32),), (Iter("i", 5),), (term,))
    assert stage_key(stage).startswith("program p(x0: f32[5,5])\nt0: f32[5] = L[i0:5]\n  let $0: f32 = ")


HASH = """import sys
from tpopt.ir.canonical import structural_hash
from tpopt.ir.parse import parse_program
print(*(structural_hash(parse_program(text)) for text in sys.stdin.read().split("---")))"""


@pytest.mark.parametrize("seed", ["1", "77"])
def test_hashes_do_not_depend_on_the_hash_seed(seed: str):
    environment = {"PYTHONHASHSEED": seed, "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, "-c", HASH]
    run = subprocess.run(
        command, input=f"{BASE}---{NESTED}", capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout.split() == [structural_hash(parse_program(text)) for text in (BASE, NESTED)]
