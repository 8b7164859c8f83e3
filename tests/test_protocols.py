"""The contracts between rooms: what the project's own classes promise, and what an unknown price says."""

from __future__ import annotations

import pytest

from tpopt import protocols
from tpopt.passes.pipelines import DEFAULT
from tpopt.protocols import CostModel, Evaluator, Executor, Interval, Measurer, Price, Target


@pytest.mark.parametrize("what", DEFAULT, ids=str)
def test_every_pass_keeps_the_contract(what: object):
    assert isinstance(what, protocols.Pass)


@pytest.mark.parametrize("contract", [protocols.Pass, CostModel, Evaluator, Executor, Measurer, Target])
def test_a_contract_is_not_kept_by_chance(contract: type):
    assert not isinstance(object(), contract)


def test_a_target_is_whoever_describes_a_machine():
    class Machine:
        device, threads, fingerprint = "cpu", 2, "avx512/2"

    assert isinstance(Machine(), Target)


def test_an_unknown_price_is_not_a_number():
    assert Price(None, "roofline", "no record of sin").microseconds is None
    assert Interval("eager", 10.0, 9.0, 11.0, 20).median == 10.0
