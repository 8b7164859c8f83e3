"""Inputs made from a program."""

from __future__ import annotations

import pytest
import torch

from tpopt.errors import UnknownName, UnsupportedInput
from tpopt.ir.parse import parse_program
from tpopt.verify import KINDS, generate_inputs
from tpopt.verify.ranges import input_ranges

TEXT = """program p(x: f32[n,6], h: f16[3], z: c64[4], q: bool[5], ids: i64[n], k: i32[2])
symbol n in [1, 64]
weight table: f32[9,6]
y: f32[n,6] = L[i:n,j:6] x[i,j] + table[ids[i]{0:9},j]
return y"""


def made(kind: str, seed: int = 0, **options: object) -> dict[str, torch.Tensor]:
    program = parse_program(TEXT)
    values = generate_inputs(program, seed, {"n": 4}, kind, **options)  # type: ignore[arg-type]
    return {t.name: v for t, v in zip(program.inputs, values, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_types_are_the_programs(kind: str):
    values = made(kind)
    expected = {"x": (4, 6), "h": (3,), "z": (4,), "q": (5,), "ids": (4,), "k": (2,)}
    assert {k: tuple(v.shape) for k, v in values.items()} == expected
    dtypes = [torch.float32, torch.float16, torch.complex64, torch.bool, torch.int64, torch.int32]
    assert [v.dtype for v in values.values()] == dtypes


@pytest.mark.parametrize("kind", KINDS)
def test_indices_stay_within_their_bounds(kind: str):
    ids = made(kind)["ids"]
    assert ids.min() >= 0
    assert ids.max() < 9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_values_and_global_state_is_left_alone(kind: str):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = made(kind, seed=7), made(kind, seed=7)
    assert all(
        torch.equal(a.nan_to_num(9.0), b.nan_to_num(9.0)) for a, b in zip(first.values(), second.values(), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_values():
    assert not torch.equal(made("normal", seed=1)["x"], made("normal", seed=2)["x"])


def test_kinds_are_what_they_say():
    assert made("zeros")["x"].abs().sum() == 0
    assert torch.equal(made("ones")["x"], torch.ones(4, 6))
    assert made("large")["x"].abs().max() > 1e4
    assert made("large")["h"].isfinite().all()
    small = made("small")["x"]
    assert small.abs().max() < 1e-37
    assert (small.abs() < torch.finfo(torch.float32).tiny).any()
    special = made("special")["x"]
    assert special.isnan().any()
    assert (special == float("inf")).any()
    assert (special == -float("inf")).any()
    assert ((special == 0) & special.signbit()).any()


def test_strided_inputs_have_gaps_and_an_offset():
    x, h = made("strided")["x"], made("strided")["h"]
    assert not x.is_contiguous()
    assert x.storage_offset() > 0
    assert h.stride() == (2,)


def test_examples_tell_scale_and_range():
    like = [torch.full((4, 6), 100.0) + torch.arange(24.0).reshape(4, 6), torch.ones(3), torch.ones(4), torch.ones(5),
            torch.zeros(4), torch.tensor([40, 41])]  # fmt: skip
    values = made("normal", like=like)
    assert values["x"].mean() > 50
    assert set(values["k"].tolist()) <= {40, 41}


def test_a_mask_of_infinities_is_drawn_from():
    like = [torch.tensor([0.0, -float("inf")]).repeat(12).reshape(4, 6), torch.ones(3), torch.ones(4), torch.ones(5),
            torch.zeros(4), torch.zeros(2)]  # fmt: skip
    assert set(made("normal", like=like)["x"].flatten().tolist()) == {0.0, -float("inf")}


def test_state_keeps_its_example():
    program = parse_program("program p(x: f32[2], s: f32[2])\nn: f32[2] = L[i:2] s[i] + x[i]\nreturn n\nalias 0 -> s")
    like = [torch.zeros(2), torch.tensor([3.0, 4.0])]
    assert torch.equal(generate_inputs(program, 0, {}, "large", like=like)[1], like[1])


def test_errors_name_what_is_missing():
    with pytest.raises(UnknownName, match="unknown kind of inputs 'huge'"):
        generate_inputs(parse_program(TEXT), 0, {"n": 4}, "huge")
    with pytest.raises(UnsupportedInput, match="the size of symbol n is not given"):
        generate_inputs(parse_program(TEXT), 0, {}, "normal")


RANGES = {
    "directly": ("y: f32[4] = L[i:4] w[ids[i]{0:9}]", (0, 9)),
    "through a view": ("v: i64[2,2] = L[i:2,j:2] ids[2*i+j]\ny: f32[2,2] = L[i:2,j:2] w[v[i,j]{0:9}]", (0, 9)),
    "through a cast": ("v: i32[4] = L[i:4] i32(ids[i])\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (0, 9)),
    "shifted": ("v: i64[4] = L[i:4] ids[i] + 2\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (-2, 7)),
    "by an iterator": ("v: i64[4] = L[i:4] ids[i] + i\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (0, 6)),
    "taken away": ("v: i64[4] = L[i:4] ids[i] - 2\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (2, 11)),
    "scaled": ("v: i64[4] = L[i:4] ids[i] * 4\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (0, 3)),
    "divided": ("v: i64[4] = L[i:4] floordiv(ids[i], 4)\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (0, 36)),
    "wrapped": ("v: i64[4] = L[i:4] where(ids[i] < 0, ids[i] + 9, ids[i])\ny: f32[4] = L[i:4] w[v[i]{0:9}]", (0, 9)),
    "twice": ("y: f32[4] = L[i:4] w[ids[i]{0:9}] + u[ids[i]{0:5}]", (0, 5)),
    "as a place to write": ("y: f32[9] = scatter add into w L[i:4] at [ids[i]{0:9}] { 1.0 }", (0, 9)),
    "sorted": ("""v: i64[4], p: i64[4] = sort(ids, axis=0, descending=false, stable=true)
    y: f32[4] = L[i:4] w[v[i]{0:9}]""", (0, 9)),
    "in a branch": ("""y: f32[4] = cond(q, captures=[ids, w]) {
      program yes(a: i64[4], b: f32[9])
      c: f32[4] = L[i:4] b[a[i]{0:9}]
      return c
    } else {
      program no(a: i64[4], b: f32[9])
      c: f32[4] = L[i:4] b[i]
      return c
    }""", (0, 9)),
    "in a kernel": ("y: f32[4] = kernel embedding(ids, w) defines { y: f32[4] = L[i:4] w[ids[i]{0:9}] }", (0, 9)),
}  # fmt: skip


@pytest.mark.parametrize(("stages", "expected"), RANGES.values(), ids=RANGES.keys())
def test_ranges_are_traced_to_the_inputs(stages: str, expected: tuple[int, int]):
    text = f"program p(ids: i64[4], q: bool[], w: f32[9], u: f32[5])\n{stages}\nreturn y"
    assert input_ranges(parse_program(text).validate(), {}) == {"ids": expected}
