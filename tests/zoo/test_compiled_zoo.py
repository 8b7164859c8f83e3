"""Every model of the zoo, compiled here: it agrees, it is algebra but for known operators, and it takes its minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.opaque import opaque_text

import tpopt
from tpopt.bench.reference import l2_rel_err, reference_outputs
from tpopt.bench.suites import load_suite
from tpopt.options import EFFORT_SECONDS

pytestmark = pytest.mark.acceptance

MODELS = (
    "resnet18 dcgan infogan fsrcnn gcn csrnet longformer fno2d bert mace mobilenet_v2 vit_s16 gpt2_prefill gpt2_decode"
).split()
LEAST_TOLERANCE = 2e-6


def test_these_are_all_models_of_the_zoo():
    assert list(load_suite("zoo")) == MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_model_agrees_and_only_these_operators_are_opaque(name: str, golden: Callable[[str, str], None]):
    model, inputs = load_suite("zoo")[name]()
    made = tpopt.compile(model, inputs, choice="model", gate=False)
    assert made.report.result.status == "optimized", made.report.result.reason
    reference, kind = reference_outputs(model, inputs)
    with torch.no_grad():
        eager, ours = (l2_rel_err(call(*inputs), reference) for call in (model, made))
    assert kind == "float64"
    assert ours <= max(2 * eager, LEAST_TOLERANCE)
    golden(f"opaque/zoo/{name}.txt", opaque_text(made.report.to_dict()["opaque"]))


@pytest.mark.serial
@pytest.mark.parametrize("name", MODELS)
def test_a_model_compiles_within_its_effort_without_any_record(name: str, tmp_path: Path):
    model, inputs = load_suite("zoo")[name]()
    started = time.perf_counter()
    made = tpopt.compile(model, inputs, effort="fast", records=tmp_path / "records.json")
    assert time.perf_counter() - started <= EFFORT_SECONDS["fast"]
    assert made.report.verification.passed
