"""``inline-views``: index maps go into their readers, except where that would cost something."""

from __future__ import annotations

import pytest
from support.rewriting import run, valued

from tpopt.passes.inline_views import InlineViews
from tpopt.rewrite import Trace


def stages(text: str, **options: bool) -> str:
    return run(InlineViews(**options), text).stages


def test_a_chain_of_views_vanishes():
    text = """program p(x: f32[2,6,4])
    h: f32[2,6,2,2] = L[b:2,s:6,h:2,d:2] x[b,s,2*h+d]
    t: f32[2,2,6,2] = L[b:2,h:2,s:6,d:2] h[b,s,h,d]
    y: f32[2,2,6] = L[b:2,h:2,s:6] sum[d:2]{ t[b,h,s,d] }
    return y"""
    assert stages(text) == "y: f32[2,2,6] = L[b:2,h:2,s:6] sum[d:2]{ x[b,s,d+2*h] }"


def test_slices_broadcasts_and_fills():
    text = """program p(x: f32[8])
    a: f32[3] = L[i:3] x[2*i+1]
    b: f32[3,5] = L[i:3,j:5] a[i]
    f: f32[3,5] = L[i:3,j:5] 2.0
    n: f32[5] = L[j:5] f32(@(j+1))
    y: f32[3,5] = L[i:3,j:5] b[i,j] * f[i,j] + n[j]
    return y"""
    assert stages(text) == "y: f32[3,5] = L[i:3,j:5] x[2*i+1] * 2.0 + f32(@(j+1))"


def test_a_reshape_stays_before_a_reader_that_does_not_divide():
    text = """program p(x: f32[2,3,4])
    r: f32[2,12] = L[n:2,k:12] x[n,k//4,k%4]
    y: f32[2] = L[n:2] sum[k:12]{ r[n,k] }
    return y"""
    outcome = run(InlineViews(), text)
    assert outcome.after is outcome.before
    assert outcome.refused == ["the composed index divides"]
    assert stages(text, divisions=True) == "y: f32[2] = L[n:2] sum[k:12]{ x[n,k//4,k%4] }"


def test_divisions_that_cancel_are_no_divisions():
    text = """program p(x: f32[2,3,4])
    r: f32[2,12] = L[n:2,k:12] x[n,k//4,k%4]
    y: f32[2,3] = L[n:2,a:3] sum[b:4]{ r[n,4*a+b] }
    return y"""
    assert stages(text) == "y: f32[2,3] = L[n:2,a:3] sum[b:4]{ x[n,a,b] }"


def test_views_of_views_compose_whatever_they_divide():
    text = """program p(x: f32[2,3,4])
    t: f32[2,4,3] = L[n:2,a:4,b:3] x[n,b,a]
    r: f32[2,12] = L[n:2,k:12] t[n,k//3,k%3]
    y: f32[2,12] = L[n:2,k:12] exp(r[n,k])
    return y"""
    assert stages(text).splitlines()[0] == "r: f32[2,12] = L[n:2,k:12] x[n,k%3,k//3]"


def test_an_output_keeps_its_stage():
    text = """program p(x: f32[2,3])
    t: f32[3,2] = L[a:3,b:2] x[b,a]
    y: f32[3,2] = L[a:3,b:2] exp(t[a,b])
    return t, y"""
    assert stages(text) == "t: f32[3,2] = L[a:3,b:2] x[b,a]\ny: f32[3,2] = L[a:3,b:2] exp(x[b,a])"


@pytest.mark.parametrize(
    ("reader", "kind"),
    [
        ("y: f32[3,2] = opaque aten.exp.default(t)", "Opaque"),
        ("y: f32[3,2], k: i64[3,2] = sort(t, axis=0)", "Sort"),
        ("y: f32[3,2] = scatter add into t L[a:3,b:2] at [a,b] { t[a,b] }", "Scatter"),
    ],
)
def test_readers_of_whole_tensors_keep_the_view(reader: str, kind: str):
    before = valued(f"program p(x: f32[2,3])\nt: f32[3,2] = L[a:3,b:2] x[b,a]\n{reader}\nreturn y")
    trace = Trace()
    after = InlineViews().run(before, trace)
    assert after.stages[0] is before.stages[0]
    assert [e.detail for e in trace.events if e.kind == "refused"] == [f"{kind} reads it whole"]


def test_padding_is_composed_where_asked_for():
    text = """program p(x: f32[8])
    q: f32[10] = L[i:10] select(1 <= i < 9, x[i-1], 0.0)
    y: f32[8] = L[i:8] sum[r:3]{ q[i+r] }
    return y"""
    assert stages(text).count("\n") == 1
    assert stages(text, padding=True) == "y: f32[8] = L[i:8] sum[r:3]{ select(1 <= i+r < 9, x[i+r-1], 0.0) }"


def test_lookups_go_through_views_of_integers():
    text = """program p(x: f32[9,4], ids: i64[2,5])
    t: i64[5,2] = L[a:5,b:2] ids[b,a]
    n: i64[5] = L[a:5] @(a+2)
    e: f32[5,2,4] = L[a:5,b:2,c:4] x[t[a,b]{0:9},c] + x[n[a]{0:9},c]
    return e"""
    assert stages(text) == "e: f32[5,2,4] = L[a:5,b:2,c:4] x[ids[b,a]{0:9},c] + x[a+2,c]"


def test_an_embedding_is_no_view():
    text = """program p(x: f32[9,4], ids: i64[5])
    e: f32[5,4] = L[a:5,c:4] x[ids[a]{0:9},c]
    y: f32[5] = L[a:5] sum[c:4]{ e[a,c] * e[a,c] }
    return y"""
    outcome = run(InlineViews(), text)
    assert outcome.after is outcome.before


def test_scatters_read_through_views():
    text = """program p(x: f32[9,4], u: f32[4,5], ids: i64[1,5])
    t: f32[5,4] = L[a:5,c:4] u[c,a]
    n: i64[5] = L[a:5] ids[0,a]
    y: f32[9,4] = scatter add into x L[a:5,c:4] at [n[a]{0:9},c] if 1 <= n[a]{0:9} < 9 { t[a,c] }
    return y"""
    expected = "scatter add into x L[a:5,c:4] at [ids[0,a]{0:9},c] if 1 <= ids[0,a]{0:9} < 9 { u[c,a] }"
    assert stages(text) == f"y: f32[9,4] = {expected}"


def test_symbolic_extents():
    text = """program p(x: f32[s,12])
    symbol s in [1, 64]
    h: f32[3,s,4] = L[a:3,i:s,b:4] x[i,4*a+b]
    y: f32[s] = L[i:s] sum[a:3,b:4]{ h[a,i,b] }
    return y"""
    assert stages(text) == "y: f32[s] = L[i:s] sum[a:3,b:4]{ x[i,4*a+b] }"


def test_inside_the_bodies_of_loops():
    text = """program p(h: f32[3], x: f32[5,3])
    e: f32[3] = scan[t:5](init=[h], xs=[x], captures=[]) {
      program body(a: f32[3], v: f32[3])
      w: f32[3] = L[i:3] v[-i+2]
      n: f32[3] = L[i:3] a[i] + w[i]
      return n
    }
    return e"""
    assert "n: f32[3] = L[i:3] a[i] + v[-i+2]" in stages(text)
