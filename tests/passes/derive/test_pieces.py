"""Concatenations in regions: each piece is multiplied apart, where that is less work."""

from __future__ import annotations

import random
from math import inf, nan

import pytest
from structured.equivariant import permutation_layer
from support.derivations import explored, explored_model

from tpopt.ir import DType, Guard, Iter, Scalar, Select, Tensor, const, guard
from tpopt.ir.index import evaluate
from tpopt.ir.work import work
from tpopt.passes.contraction.cost import MACS
from tpopt.passes.derive.derivation import Derivation, folded
from tpopt.passes.derive.pieces import pieces
from tpopt.verify.replay import replay

X = Tensor("x", (8,), DType.F32)
BROADCAST = """program p(x: f32[6,7,4], v: f32[6,4], s: f32[4])
weight w: f32[3,4,5]
t: f32[3,6,7,4] = L[k:3,i:6,j:7,c:4] select(0 <= k < 1, x[i,j,c], select(1 <= k < 2, v[i,c], s[c]))
y: f32[6,7,5] = L[i:6,j:7,d:5] sum[k:3,c:4]{ t[k,i,j,c] * w[k,c,d] }
return y"""
SIDE_BY_SIDE = """program p(a: f32[6,2], v: f32[3], b: f32[6,4])
weight w: f32[9,5]
t: f32[6,9] = L[i:6,k:9] select(0 <= k < 2, a[i,k], select(2 <= k < 5, v[k-2], b[i,k-5]))
y: f32[6,5] = L[i:6,d:5] sum[k:9]{ t[i,k] * w[k,d] }
return y"""
PADDED = """program p(a: f32[6,4], z: f32[6,4])
weight w: f32[12,5]
t: f32[6,12] = L[i:6,k:12] select(3 <= k < 7, a[i,k-3], 0.0)
y: f32[6,5] = L[i:6,d:5] sum[k:12]{ t[i,k] * w[k,d] }
return y"""


ALONG_THE_RESULT = """program p(a: f32[6,4], b: f32[6,4])
weight w: f32[4,5]
u: f32[6,5] = L[i:6,d:5] sum[k:4]{ a[i,k] * w[k,d] }
v: f32[6,5] = L[i:6,d:5] sum[k:4]{ b[i,k] * w[k,d] }
t: f32[12,5] = L[i:12,d:5] select(0 <= i < 6, u[i,d], v[i-6,d])
y: f32[12,5] = L[i:12,d:5] t[i,d] * 2.0
return y"""


def macs(derivation: Derivation) -> int:
    return work(folded(derivation.result)).macs


@pytest.mark.parametrize(
    ("text", "most"),
    [
        (BROADCAST, 6 * 7 * 4 * 5 + 6 * 4 * 5 + 4 * 5),
        (SIDE_BY_SIDE, 6 * 2 * 5 + 3 * 5 + 6 * 4 * 5),
        (PADDED, 6 * 4 * 5),
    ],
)
def test_each_piece_is_multiplied_by_its_part_of_the_matrix_alone(text: str, most: int):
    found = explored(text, cost=MACS)
    assert min(map(macs, found)) <= most
    assert all(replay(d.certificate()).passed for d in found)


def test_maps_that_are_stacked_and_mixed_are_mixed_before_they_are_broadcast():
    nodes, batch, channels = 5, 2, 3
    found = explored_model(*permutation_layer(nodes, batch, channels), cost=MACS)
    dense, vectors, diagonals = 2 * channels**2 * nodes**2, 13 * channels**2 * nodes, 5 * channels * nodes**2
    assert min(map(macs, found)) <= batch * (dense + vectors + diagonals) < batch * 15 * channels**2 * nodes**2
    assert all(replay(d.certificate()).passed for d in found)


def test_pieces_along_the_result_stay_together():
    assert all({s.outs[0].name for s in d.result.stages}.isdisjoint({"t", "y"}) for d in explored(ALONG_THE_RESULT))


def chain(draw: random.Random, k: Iter) -> Select:
    """Selections by one index with any intervals: empty ones, overlapping ones, and some that hold everywhere."""
    term: Scalar = X[7]
    for number in range(draw.randint(1, 5)):
        term = Select(guard((draw.randint(-2, 9), k, draw.randint(-2, 9))), X[number], term)
    assert isinstance(term, Select)
    return term


def holds(where: Guard, value: int) -> bool:
    at = {"k": value}
    return all(evaluate(b.low, at) <= evaluate(b.value, at) < evaluate(b.high, at) for b in where.bounds)


def taken(term: Scalar, value: int) -> Scalar:
    """The read that a chain of selections takes for a value of its index."""
    while isinstance(term, Select):
        term = term.inside if holds(term.guard, value) else term.outside
    return term


@pytest.mark.parametrize("seed", range(200))
def test_exactly_one_piece_is_there_for_each_value_and_it_is_the_one_selected(seed: int):
    k = Iter("k", 8)
    term = chain(random.Random(seed), k)
    found = pieces(term) if term.guard.bounds else ((term.guard, term),)
    assert found is not None
    for value in range(8):
        (held,) = (piece for where, piece in found if holds(where, value))
        assert taken(held, value) == taken(term, value)


def test_selections_by_something_else_stay_whole():
    i, k = Iter("i", 8), Iter("k", 8)
    inner = Select(guard((0, i, 3)), X[1], X[2])
    term = Select(guard((0, k, 2)), X[0], inner)
    assert pieces(term) == ((guard((0, k, 2)), X[0]), (guard((2, k, 8)), inner))
    assert pieces(Select(guard((0, k, i)), X[0], X[1])) is None


def test_zeros_are_left_out_and_a_mask_stays_whole():
    k = Iter("k", 8)
    zero = const(0.0, DType.F32)
    assert pieces(Select(guard((2, k, 5)), zero, X[0])) == ((guard((0, k, 2)), X[0]), (guard((5, k, 8)), X[0]))
    for mask in (-inf, -1e9, nan):
        assert pieces(Select(guard((2, k, 5)), X[0], const(mask, DType.F32))) is None
