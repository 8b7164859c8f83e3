from __future__ import annotations

import pytest

from tpopt.choose.candidate import Candidate, Price, Value
from tpopt.choose.levels import level
from tpopt.ir import DType, Kernel, Tensor

X, Y, Z = (Tensor(name, (4,), DType.F32) for name in "xyz")


def kernel(name: str, *covers: str, reads: Tensor = X, implementation: str = "conv") -> Candidate:
    stage = Kernel((Tensor(covers[-1], (4,), DType.F32),), implementation, (reads,), ())
    return Candidate(name, "onednn", stage, (Value(reads.name),), (Value(covers[-1]),), name, covers=covers)


PLAIN, FUSED = kernel("plain", "y"), kernel("fused", "y", "z")
FIFTY = Price(50.0, 49.0, 51.0, measured=True)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (Price(52.0, 50.5, 53.0, measured=True), 50.0),
        (Price(48.0, 47.0, 49.5, measured=True), 48.0),
        (Price(60.0, 58.0, 61.0, measured=True), 60.0),
        (Price(60.0, 45.0, 75.0, measured=True), 60.0),
        (Price(52.0), 52.0),
    ],
    ids=["within the noise", "cheaper by chance", "dearer for sure", "dearer, timed badly", "modelled"],
)
def test_an_epilogue_is_free_unless_measurement_says_otherwise(own: Price, expected: float):
    assert level([PLAIN, FUSED], {"plain": FIFTY, "fused": own})["fused"].us == expected


@pytest.mark.parametrize(
    "other", [kernel("plain", "y", implementation="gemm"), kernel("plain", "y", reads=Y), kernel("plain", "w")]
)
def test_only_the_same_kernel_on_the_same_values_counts(other: Candidate):
    own = Price(52.0, 50.5, 53.0, measured=True)
    assert level([other, FUSED], {"plain": FIFTY, "fused": own})["fused"] == own
