"""What a model sees of a kernel: figures checked by hand, and no time to speak of."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tpopt.backend.generated.decisions import Decision
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.tvm.tune.features import NAMES, features
from tpopt.backend.tvm.tune.tasks import KINDS, drawn
from tpopt.ir.parse import parse_program

PRODUCT = """program p(x: f32[32,64], w: f32[128,64])
y: f32[32,128] = L[i:32,j:128] sum[k:64]{ x[i,k] * w[j,k] }
return y"""


def row(decision: Decision) -> dict[str, float]:
    request = KernelRequest.of(parse_program(PRODUCT), (1,), Processor())
    return dict(zip(NAMES, features(request, [(decision,)])[0], strict=False))


def test_figures_of_a_product():
    seen = row(Decision(1, 16, (4, 2), (0, 1), 0))
    wanted = {
        "points": np.log2(1 + 32 * 128),
        "terms": np.log2(1 + 64),
        "lanes": np.log2(17),
        "accumulators": np.log2(1 + 8),
        "loads": np.log2(1 + 4 + 2),
        "loads a product": 6 / 8,
        "waste": 1.0,
        "innermost tiles": np.log2(1 + 4),
        "second tiles": np.log2(1 + 8),
        "bytes written": np.log2(1 + 4 * 32 * 128),
        "packs": 1.0,
    }
    assert {name: seen[name] for name in wanted} == pytest.approx(wanted)


def test_tails_are_waste():
    assert row(Decision(1, 16, (5, 3), (0, 1), 0))["waste"] == pytest.approx(35 / 32 * 144 / 128)


def test_the_innermost_tile_touches_what_it_reads_and_writes():
    seen = row(Decision(1, 16, (4, 2), (0, 1), 0))
    touched = 4 * (4 * 64 + 32 * 64 + 4 * 32)  # rows of x, packed columns of w, the tile of y
    assert seen["footprint 0"] == pytest.approx(np.log2(1 + touched))


def test_the_second_half_is_the_difference_to_the_own_schedule():
    request = drawn("product", 0, Processor()).request
    points = request.space.sample(4, seed=0)
    found = features(request, points)
    assert found.shape == (4, 2 * len(NAMES))
    np.testing.assert_allclose(found[0, len(NAMES) :], 0.0, atol=1e-12)
    assert np.abs(found[1:, len(NAMES) :]).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_finite_features_and_several_ways(kind: str):
    for seed in range(3):
        request = drawn(kind, seed, Processor(threads=2)).request
        points = request.space.sample(6, seed=0)
        assert len(points) >= 4
        assert np.isfinite(features(request, points)).all()
        assert drawn(kind, seed, Processor(threads=2)).request == request


@pytest.mark.serial
def test_a_candidate_costs_less_than_a_third_of_a_millisecond():
    """Features and the prediction of an ensemble as wide as the one that ships."""
    from tpopt.cost_models.learned import Settings, fit_networks
    from tpopt.cost_models.ranking import Trials

    request = drawn("convolution", 0, Processor()).request
    points = request.space.sample(192, seed=0)
    seen = features(request, points)
    count = len(points)
    trials = Trials(seen, seen[:, 0] * 0, np.ones(count), np.zeros(count, dtype=np.int64), ("f",))
    ranker = fit_networks(trials, 0, Settings(epochs=1))
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        ranker.predict(features(request, points))
        best = min(best, time.perf_counter() - started)
    assert best / count < 0.3e-3
