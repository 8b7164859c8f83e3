"""Projections are the nearest of their kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tpopt.errors import UsageError
from tpopt.passes.factorize.projections import BlockTrain, Kronecker, LowRank, SpatialSvd, Train, Tucker2

RNG = np.random.default_rng(0)
W = RNG.standard_normal((12, 18))
K = RNG.standard_normal((8, 6, 3, 5))


def tail(matrix: np.ndarray, rank: int) -> float:
    return float((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum())


def lost(weight: np.ndarray, whole: np.ndarray) -> float:
    return float(((weight - whole) ** 2).sum())


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_low_rank_loses_the_tail_of_the_spectrum(rank: int):
    found = LowRank.of(W, rank)
    assert [f.shape for f in found.factors] == [(12, rank), (rank, 18)]
    assert lost(W, found.whole()) == pytest.approx(tail(W, rank), abs=1e-10)


@pytest.mark.parametrize("shape", [(12, 18), (18, 12), (40, 40)])
def test_errors_are_the_optimum_however_small_singular_values_are(shape: tuple[int, int]):
    count = min(shape)
    left, right = (np.linalg.qr(RNG.standard_normal((size, count)))[0] for size in shape)
    scales = 10.0 ** -np.arange(count)
    weight = left * scales @ right.T
    for rank in range(1, count):
        found = np.linalg.norm(weight - LowRank.of(weight, rank).whole())
        assert found == pytest.approx(np.linalg.norm(scales[rank:]), abs=1e-14)


def test_a_matrix_of_zeros_is_its_own_projection():
    assert not LowRank.of(np.zeros((5, 4)), 2).whole().any()
    assert not BlockTrain.of(np.zeros((6, 4)), (2, 2), 1).whole().any()


def test_the_nearest_matrices_themselves_are_found():
    def cut(matrix: np.ndarray, rank: int) -> np.ndarray:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        return u[..., :rank] * s[..., None, :rank] @ vt[..., :rank, :]

    weight = RNG.standard_normal((24, 40))
    blocks = weight.reshape(6, 4, 5, 8).transpose(1, 2, 0, 3)
    nearest = cut(blocks, 2).transpose(2, 0, 1, 3).reshape(24, 40)
    assert np.abs(LowRank.of(weight, 7).whole() - cut(weight, 7)).max() <= 1e-10
    assert np.abs(BlockTrain.of(weight, (4, 5), 2).whole() - nearest).max() <= 1e-10
    rearranged = cut(weight.reshape(4, 6, 5, 8).transpose(0, 2, 1, 3).reshape(20, 48), 3)
    nearest = rearranged.reshape(4, 5, 6, 8).transpose(0, 2, 1, 3).reshape(24, 40)
    assert np.abs(Kronecker.of(weight, (4, 5), 3).whole() - nearest).max() <= 1e-10
    nearest = cut(K.transpose(0, 3, 1, 2).reshape(40, 18), 5).reshape(8, 5, 6, 3).transpose(0, 2, 3, 1)
    assert np.abs(SpatialSvd.of(K, 5).whole() - nearest).max() <= 1e-10


@pytest.mark.parametrize("rank", [1, 6, 11])
def test_with_a_covariance_the_outputs_are_nearest(rank: int):
    x = RNG.standard_normal((18, 200)) * np.linspace(0.1, 3, 18)[:, None]
    covariance = x @ x.T / 200
    found = LowRank.of(W, rank, covariance)
    y = W @ x
    assert lost(y, found.whole() @ x) == pytest.approx(tail(y, rank), rel=1e-9)
    assert lost(y, found.whole() @ x) <= lost(y, LowRank.of(W, rank).whole() @ x) + 1e-9


def test_inputs_that_are_always_zero_are_no_matter():
    x = RNG.standard_normal((18, 50))
    x[5:] = 0
    found = LowRank.of(W, 7, x @ x.T / 50)
    assert np.isfinite(found.left).all()
    assert np.isfinite(found.right).all()
    assert lost(W @ x, found.whole() @ x) <= 1e-20
    assert np.isfinite(LowRank.of(W, 3, np.zeros((18, 18))).whole()).all()


@pytest.mark.parametrize("rank", [1, 7, 18])
def test_a_spatial_svd_loses_the_tail_of_its_unfolding(rank: int):
    found = SpatialSvd.of(K, rank)
    assert found.left.shape == (8, rank, 5)
    assert found.right.shape == (rank, 6, 3)
    assert lost(K, found.whole()) == pytest.approx(tail(K.transpose(0, 3, 1, 2).reshape(40, 18), rank), abs=1e-10)


@pytest.mark.parametrize(("shape", "terms"), [((3, 2), 1), ((4, 6), 5), ((12, 18), 1), ((2, 3), 6)])
def test_kronecker_sums_are_nearest_by_rearrangement(shape: tuple[int, int], terms: int):
    found = Kronecker.of(W, shape, terms)
    whole = sum(np.kron(a, b) for a, b in zip(*found.factors, strict=True))
    assert np.allclose(found.whole(), whole)
    p, q = shape
    rearranged = W.reshape(p, 12 // p, q, 18 // q).transpose(0, 2, 1, 3).reshape(p * q, -1)
    assert lost(W, whole) == pytest.approx(tail(rearranged, terms), abs=1e-10)


@pytest.mark.parametrize(("split", "rank"), [((3, 2), 1), ((4, 6), 2), ((2, 3), 4), ((1, 1), 5)])
def test_block_trains_are_nearest_block_by_block(split: tuple[int, int], rank: int):
    found = BlockTrain.of(W, split, rank)
    n, p = split
    blocks = W.reshape(12 // n, n, p, 18 // p).transpose(1, 2, 0, 3)
    want = sum(tail(blocks[a, b], rank) for a in range(n) for b in range(p))
    assert lost(W, found.whole()) == pytest.approx(want, abs=1e-10)
    x = RNG.standard_normal(18)
    inner = np.einsum("pnrq,pq->pnr", found.right, x.reshape(p, -1))
    assert np.allclose(np.einsum("nmpr,pnr->mn", found.left, inner).reshape(-1), found.whole() @ x)


@pytest.mark.parametrize("ranks", [(1, 1), (3, 4), (8, 6)])
def test_tucker2_is_between_its_bounds_and_no_worse_than_its_start(ranks: tuple[int, int]):
    found = Tucker2.of(K, ranks)
    tails = tail(K.reshape(8, -1), ranks[0]), tail(K.transpose(1, 0, 2, 3).reshape(6, -1), ranks[1])
    error = lost(K, found.whole())
    assert max(tails) - 1e-9 <= error <= sum(tails) + 1e-9
    assert error <= lost(K, Tucker2.of(K, ranks, sweeps=0).whole()) + 1e-9
    assert [f.shape[:2] for f in found.factors] == [(8, ranks[0]), ranks, (ranks[1], 6)]


def test_a_tensor_train_is_within_its_bound_of_the_nearest():
    weight = RNG.standard_normal((8, 27))
    rows, columns, ranks = (2, 2, 2), (3, 3, 3), (3, 4)
    found = Train.of(weight, rows, columns, ranks)
    tensor = weight.reshape(*rows, *columns).transpose(0, 3, 1, 4, 2, 5)
    tails = [tail(tensor.reshape(6, -1), 3), tail(tensor.reshape(36, -1), 4)]
    assert max(tails) - 1e-9 <= lost(weight, found.whole()) <= sum(tails) + 1e-9
    # no train of these ranks loses less than the largest tail: at most sqrt(cores - 1) times the error of the nearest
    assert lost(weight, found.whole()) <= (len(rows) - 1) * max(tails) + 1e-9
    assert np.allclose(Train.of(weight, rows, columns, (99, 99)).whole(), weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LowRank.of(W, 0),
        lambda: LowRank.of(W, 13),
        lambda: LowRank.of(K, 1),
        lambda: Tucker2.of(W, (1, 1)),
        lambda: Tucker2.of(K, (9, 1)),
        lambda: SpatialSvd.of(W, 1),
        lambda: SpatialSvd.of(K, 19),
        lambda: Kronecker.of(W, (5, 2), 1),
        lambda: Kronecker.of(W, (3, 2), 7),
        lambda: BlockTrain.of(W, (5, 2), 1),
        lambda: BlockTrain.of(W, (3, 2), 5),
        lambda: Train.of(W, (3, 4), (3, 5), (2,)),
        lambda: Train.of(W, (3, 4), (3, 6), ()),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Callable[[], object]):
    with pytest.raises(UsageError, match="no such factorization"):
        wrong()
