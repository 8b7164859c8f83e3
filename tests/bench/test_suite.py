"""A suite run: rows, failures, crashes, and going on after an interruption."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tpopt.bench import BenchConfig, load_run, peers, run_suite
from tpopt.bench.settings import apply_settings
from tpopt.errors import CorruptFile, UnknownName, UsageError

QUICK = {"peers": ("eager",), "rounds": 5, "isolate": False, "compiler": "tiny:compile_as_is", "allocator": "stock"}


def config(suite: str, *models: str, **fields) -> BenchConfig:
    return BenchConfig(suite=suite, models=models or None, **{**QUICK, **fields})


def test_a_row_holds_what_the_report_says_and_what_was_measured(tiny):
    run = run_suite(config(tiny, "first"))
    (row,) = run.models
    assert (row["name"], row["status"], row["rounds"]) == ("first", "ok", 5)
    assert (row["kernels"], row["original_share"]) == ({"linear": 2, "original": 1}, 0.25)
    assert [opaque["target"] for opaque in row["opaque"]] == ["aten.foo.default"]
    assert list(row["times_ms"]) == ["tpopt", "eager"]
    assert row["ratio"]["eager"]["low"] <= row["ratio"]["eager"]["median"] <= row["ratio"]["eager"]["high"]
    assert 0 < row["l2_rel_err"] < row["tolerance"] == 2e-6
    assert row["reference"] == "float64"
    assert row["settings"]["threads"] == torch.get_num_threads()


def test_the_document_is_json_with_a_geometric_mean(tiny):
    run = run_suite(config(tiny, "first", "last"))
    document = json.loads(json.dumps(run.to_dict()))
    medians = [row["ratio"]["eager"]["median"] for row in document["models"]]
    assert document["geomean"] == {"eager": pytest.approx(math.sqrt(medians[0] * medians[1]))}
    assert document["config"]["models"] == ["first", "last"]


def test_without_rounds_nothing_is_timed(tiny):
    (row,) = run_suite(config(tiny, "first", rounds=None, choice="model")).models
    assert (row["times_ms"], row["ratio"], list(row["peers"])) == ({}, {}, ["eager"])
    assert row["l2_rel_err"] == row["errors"]["eager"] < 1e-6


def test_a_compilation_by_model_is_not_gated_by_time(tiny):
    ours = {"compiler": "tiny:compile_and_show_options", "effort": "fast"}
    by_model, measured = (run_suite(config(tiny, "first", choice=choice, **ours)) for choice in ("model", "measured"))
    assert by_model.models[0]["reason"].endswith(
        "[('choice', 'model'), ('effort', 'fast'), ('gate', False), ('verify', False)]"
    )
    assert measured.models[0]["reason"].endswith(
        "[('choice', 'measured'), ('effort', 'fast'), ('gate', True), ('verify', True)]"
    )


def test_a_model_that_fails_is_a_row_and_the_others_run(tiny):
    run = run_suite(config(tiny, "first", "broken", "last"))
    assert [row["status"] for row in run.models] == ["ok", "failed", "ok"]
    assert [row["reason"] for row in run.failed()] == ["ValueError: no such weights"]


def test_a_peer_that_fails_leaves_the_row_whole(tiny, monkeypatch):
    def build(case):
        raise RuntimeError("cannot export")

    monkeypatch.setitem(peers.PEERS, "onnxruntime", build)
    (row,) = run_suite(config(tiny, "first", peers=("onnxruntime", "eager"))).models
    assert row["peers"]["onnxruntime"]["reason"] == "RuntimeError: cannot export"
    assert list(row["ratio"]) == ["eager"]


def test_a_peer_that_computes_something_else_is_not_timed(tiny, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "onnxruntime", lambda case: lambda: case.model(*case.inputs) * 1.5)
    (row,) = run_suite(config(tiny, "first", peers=("onnxruntime",))).models
    assert row["peers"]["onnxruntime"]["reason"] == "wrong output: relative L2 error 5.0e-01"
    assert row["ratio"] == {}


def test_a_result_that_cannot_be_compared_is_a_failure(tiny):
    (row,) = run_suite(config(tiny, "first", compiler="tiny:compile_to_nan")).models
    assert (row["status"], row["exit_code"]) == ("failed", 4)


def test_an_interrupted_run_keeps_what_was_finished_and_goes_on(tiny, tmp_path):
    file, seen = tmp_path / "run.json", []

    def stop(row, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(config(tiny, "first", "last"), file=file, on_row=stop)
    before = load_run(file).models
    assert [row["name"] for row in before] == ["first"]

    on_row = lambda row, done, total: seen.append((row["name"], done, total))  # noqa: E731
    run = run_suite(config(tiny, "first", "last"), file=file, resume=True, on_row=on_row)
    assert seen == [("last", 2, 2)]
    assert run.models[0] == before[0]
    assert [row["name"] for row in load_run(file).models] == ["first", "last"]


def test_a_failed_model_is_run_again_on_resume(tiny, tmp_path):
    file, seen = tmp_path / "run.json", []
    run_suite(config(tiny, "first", "broken"), file=file)
    run = run_suite(
        config(tiny, "first", "broken"), file=file, resume=True, on_row=lambda row, *_: seen.append(row["name"])
    )
    assert seen == ["broken"]
    assert [row["name"] for row in run.models] == ["first", "broken"]


@pytest.mark.parametrize(("change", "message"), [({"rounds": 6}, "with other options"), ({}, "on another machine")])
def test_a_run_under_other_conditions_is_not_gone_on_with(tiny, tmp_path, change, message):
    file = tmp_path / "run.json"
    run_suite(config(tiny, "first"), file=file)
    if not change:
        file.write_text(file.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    with pytest.raises(UsageError, match=message):
        run_suite(config(tiny, "first", **change), file=file, resume=True)


def test_resume_needs_a_file(tiny):
    with pytest.raises(UsageError, match="resume: there is no file"):
        run_suite(config(tiny, "first"), resume=True)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', '{"schema": 99, "models": []}'])
def test_a_file_that_is_no_run_is_refused(tmp_path, text):
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(CorruptFile, match=r"run\.json"):
        load_run(file)


def test_a_row_that_lacks_a_figure_is_refused(tiny, tmp_path):
    file = tmp_path / "run.json"
    run = run_suite(config(tiny, "first"))
    del run.models[0]["kernels"]
    run.save(file)
    with pytest.raises(CorruptFile, match="the row of 'first' lacks kernels"):
        load_run(file)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": 2}, "rounds=2: expected at least 5"),
        ({"choice": "guess"}, "choice='guess'"),
        ({"effort": "huge"}, "effort='huge'"),
        ({"allocator": "mine"}, "allocator='mine': expected retain or stock"),
        ({"threads": 0}, "threads=0: expected at least 1"),
    ],
)
def test_a_wrong_option_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        BenchConfig(**fields)


def test_an_unknown_peer_is_refused_with_the_valid_ones():
    with pytest.raises(UnknownName, match="did you mean 'inductor'"):
        BenchConfig(peers=("indctor",))


def test_settings_are_what_the_process_then_has(monkeypatch):
    before = torch.get_num_threads()
    try:
        assert apply_settings(1, "stock")["threads"] == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_an_isolated_model_that_crashes_or_fails_is_a_row(tiny):
    run = run_suite(config(tiny, "first", "crash", "broken", isolate=True, threads=1))
    first, crash, broken = run.models
    assert (first["status"], first["settings"]["threads"]) == ("ok", 1)
    assert crash["reason"].startswith("ended by SIGSEGV: ")
    assert "about to crash" in crash["reason"]
    assert broken["reason"] == "ValueError: no such weights"


def test_an_isolated_model_that_takes_too_long_is_stopped(tiny):
    (row,) = run_suite(config(tiny, "hang", isolate=True, limit_s=1.0)).models
    assert (row["reason"], row["exit_code"]) == ("stopped after 1 s; --limit raises that", 7)
