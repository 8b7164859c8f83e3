from __future__ import annotations

import pytest

from tpopt.cost_models.roofline import Balance, RooflineModel

MODEL = RooflineModel(
    Balance(macs_per_us=1000, bytes_per_us=100, call_us=2, primitive_us=10, efficiency={"gemm": 0.5, "onednn": 1.0})
)


@pytest.mark.parametrize(
    ("kind", "macs", "flops", "traffic", "us"),
    [
        ("gemm", 5000, 0, 100, 5000 / 500 + 2),  # arithmetic decides
        ("gemm", 50, 0, 1000, 1000 / 100 + 2),  # traffic decides
        ("gemm", 0, 1000, 0, 1000 / 2 / 500 + 2),  # two plain operations are one multiply-add
        ("gemm", 0, 0, 0, 2),  # the call alone
        ("onednn", 5000, 0, 0, 5000 / 1000 + 10),  # a primitive costs more to call
        ("unheard of", 1000, 0, 0, 1000 / 500 + 2),  # half of the peak
    ],
)
def test_a_price_is_the_longer_of_arithmetic_and_traffic_and_the_call(
    kind: str, macs: float, flops: float, traffic: float, us: float
):
    assert MODEL.price(kind, macs, flops, traffic) == pytest.approx(us)


def test_the_default_machine_is_fixed():
    assert RooflineModel().price("original", 54e3, 0, 0) == pytest.approx(1 + 2)
    assert RooflineModel().price("layout", 0, 0, 33e3) == pytest.approx(1 + 2)
