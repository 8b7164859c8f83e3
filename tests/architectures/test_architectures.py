"""Models that tpopt has never seen: they compile, agree, are mostly algebra, and what is not says why."""

from __future__ import annotations

import functools

import pytest
import torch
from support.opaque import opaque_text

import tpopt
from architectures import ARCHITECTURES, REFUSED
from tpopt.bench.reference import l2_rel_err, reference_outputs

EXPORTED = [name for name in ARCHITECTURES if name not in REFUSED]
ALGEBRA_SHARE = 0.9
MOST_THAT_MAY_LACK_ALGEBRA = 3


@functools.cache
def compiled(name: str):
    model, inputs = ARCHITECTURES[name]()
    return tpopt.compile(model, inputs, choice="model", gate=False)


def report(name: str) -> dict:
    return compiled(name).report.to_dict()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_agrees_with_the_model(name):
    model, inputs = ARCHITECTURES[name]()
    reference, _ = reference_outputs(model, inputs)
    with torch.no_grad():
        eager, ours = (l2_rel_err(call(*inputs), reference) for call in (model, compiled(name)))
    assert ours <= max(2 * eager, 2e-6)


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_opaque_is_known_and_has_a_reason(name, golden):
    opaque = report(name)["opaque"]
    assert all(entry["reason"] for entry in opaque)
    golden(f"opaque/{name}.txt", opaque_text(opaque))


@pytest.mark.parametrize("name", EXPORTED)
def test_it_is_optimized(name):
    assert report(name)["result"]["status"] == "optimized"


def test_nearly_all_of_them_are_algebra():
    shares = {name: report(name)["work"].get("macs_algebra_share") or 0.0 for name in ARCHITECTURES}
    lacking = {name: share for name, share in shares.items() if share < ALGEBRA_SHARE}
    assert len(lacking) <= MOST_THAT_MAY_LACK_ALGEBRA, lacking


@pytest.mark.parametrize("name", REFUSED)
def test_what_export_refuses_runs_as_the_original_and_says_why(name):
    result = report(name)["result"]
    assert result["status"] == "original"
    assert "export" in result["reason"]
    assert "data-dependent" in result["reason"]
