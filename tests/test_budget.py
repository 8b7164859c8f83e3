"""What a user may spend, as a value and as text."""

from __future__ import annotations

from typing import Any

import pytest

from tpopt import Budget
from tpopt.errors import UnknownName, UsageError


def test_text_and_value_are_the_same():
    read = Budget.parse("error<=2e-2, drop<=0.01, weights<=0.5x, peak<=64MiB, latency<=3ms")
    assert read == Budget(max_error=2e-2, max_drop=0.01, weights_bytes="0.5x", peak_bytes="64MiB", latency_ms=3.0)
    assert Budget.parse(str(read)) == read
    assert str(Budget()) == "exact"


@pytest.mark.parametrize(
    ("value", "original", "allowed"),
    [("0.5x", 1000, 500), ("64MiB", 1, 64 << 20), ("2.5 KB", 1, 2500), (12345, 7, 12345), ("1e3", 9, 1000)],
)
def test_bytes_are_a_number_or_a_share_of_the_original(value: Any, original: int, allowed: float):
    assert Budget(weights_bytes=value).limit("weights_bytes", original) == allowed
    assert Budget(weights_bytes=value).limit("peak_bytes", original) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_error": 0.0}, "max_error"),
        ({"max_error": float("nan")}, "max_error"),
        ({"max_error": True}, "max_error"),
        ({"max_drop": -1}, "max_drop"),
        ({"latency_ms": float("inf")}, "latency_ms"),
        ({"weights_bytes": "0.5 boxes"}, "weights_bytes"),
        ({"weights_bytes": 0}, "weights_bytes"),
        ({"peak_bytes": "x"}, "peak_bytes"),
        ({"metric": "accuracy", "max_drop": 0.1}, "metric"),
        ({"metric": len}, "max_drop"),
        ({"higher_is_better": 1}, "higher_is_better"),
    ],
)
def test_an_impossible_value_is_refused_by_name(fields: dict[str, Any], named: str):
    with pytest.raises(UsageError, match=named):
        Budget(**fields)


def test_no_drop_at_all_is_a_budget():
    assert Budget(max_drop=0).approximates
    assert Budget(weights_bytes=1).approximates
    assert not Budget().approximates


@pytest.mark.parametrize("text", ["error=2e-2", "error<=", "error<=much", "latency<=3s", "", "error<=1e-2,error<=1e-3"])
def test_text_that_does_not_parse_is_refused(text: str):
    with pytest.raises(UsageError, match="budget"):
        Budget.parse(text)


def test_an_unknown_bound_is_named():
    with pytest.raises(UnknownName, match="did you mean 'error'"):
        Budget.parse("eror<=1")
