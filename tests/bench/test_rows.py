"""What the zoo is held to: agreement, no opaque stage, speed against eager and the peers, compile time.

Each model runs once, in a process of its own and without any earlier measurement; the rows are kept in a file, so that
a run which was stopped goes on.
"""

from __future__ import annotations

import math

import pytest
from support.opaque import opaque_text
from support.resume import SOURCES, digest
from support.tree import ROOT

from tpopt.bench import BenchConfig, Run, run_suite

pytestmark = [pytest.mark.acceptance, pytest.mark.serial]

MODELS = (
    "resnet18 dcgan infogan fsrcnn gcn csrnet longformer fno2d bert mace mobilenet_v2 vit_s16 gpt2_prefill gpt2_decode"
).split()
THREADS = 2


def bench(*models: str) -> Run:
    sources = digest(path for name in SOURCES for path in sorted((ROOT / name).rglob("*.py")))
    file = ROOT / ".acceptance" / f"zoo-{sources}.json"
    config = BenchConfig(models=models, threads=THREADS, effort="fast")
    return run_suite(config, file=file, resume=True)


def row(model: str) -> dict:
    found = bench(model).row(model)
    assert found is not None
    assert (found["status"], found["reason"]) == ("ok", None)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_model_agrees(model):
    facts = row(model)
    assert facts["reference"] == "float64"
    plain = max(2 * facts["errors"]["eager"], 2e-6)
    assert facts["l2_rel_err"] <= max(plain, facts["tolerance"])
    assert facts["tolerance"] <= max(plain, 1e-5)  # what rules that amplify rounding may reach


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_no_opaque_stage_but_these(model, golden):
    golden(f"opaque/zoo/{model}.txt", opaque_text(row(model)["opaque"]))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_not_slower_than_eager(model):
    assert row(model)["ratio"]["eager"]["high"] >= 1.0


def test_the_zoo_is_faster_than_eager():
    ratios = [row(model)["ratio"]["eager"]["median"] for model in MODELS]
    assert math.exp(sum(map(math.log, ratios)) / len(ratios)) >= 1.5


def test_bert_runs_at_the_speed_of_the_best_library():
    ratio = row("bert")["ratio"]
    assert ratio["inductor"]["median"] >= 1.3
    assert min(interval["median"] for interval in ratio.values()) >= 0.97


def test_resnet_runs_at_the_speed_of_frozen_inductor():
    assert row("resnet18")["ratio"]["inductor-max"]["median"] >= 0.95


@pytest.mark.parametrize("model", MODELS)
def test_a_model_compiles_within_a_minute(model):
    assert row(model)["compile_s"] <= 60.0
