from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from support.reports import KEPT, OPTIMIZED, REFUSED

from tpopt.errors import CorruptFile, UsageError
from tpopt.report import MemoryRow, Report, VerificationRow, read_report, write_report

KEYS = {
    "": "result environment work kernels opaque passes derivations verification memory pareto choice original_share "
    "compile_seconds schema_version",
    "result": "status reason speedup low high",
    "work": "macs_before macs_after bytes_before bytes_after macs_algebra_share macs_opaque",
    "kernels.0": "kind name source predicted_us measured_us next_best next_best_us",
    "opaque.0": "target name source reason",
    "passes.1": "name applied refused seconds",
    "passes.1.refused.0": "reason count",
    "derivations.0": "cover laws",
    "verification": "programs l2_rel max_abs tolerance seed passed",
    "memory": "arena_bytes owned_peak_bytes weights_bytes",
    "pareto.0": "predicted_us predicted_error measured_error drop weights_bytes status note",
    "choice.0": "cover source candidates chosen reason",
    "choice.0.candidates.0": "name kind price_us low_us high_us predicted_us status reason",
    "environment": "tpopt python packages platform cpu isa cores threads device settings options",
}


def at(data: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        data = data[int(step) if step.isdigit() else step]
    return data


@pytest.mark.parametrize("path", KEYS)
def test_the_keys_are_these(path: str):
    assert list(at(OPTIMIZED.to_dict(), path)) == KEYS[path].split()


@pytest.mark.parametrize("report", [OPTIMIZED, KEPT, REFUSED], ids=["optimized", "kept", "refused"])
def test_a_report_survives_json(report: Report):
    assert Report.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


def test_the_version_before_is_read():
    data = OPTIMIZED.to_dict()
    added = ("next_best", "next_best_us")
    kernels = [{k: v for k, v in row.items() if k not in added} for row in data["kernels"]]
    assert Report.from_dict({**data, "kernels": kernels, "schema_version": 2}) == OPTIMIZED


def test_the_keys_do_not_depend_on_what_is_known():
    assert [list(at(KEPT.to_dict(), path)) for path in ("", "work", "verification", "memory")] == [
        KEYS[path].split() for path in ("", "work", "verification", "memory")
    ]


def test_numbers_of_numpy_become_plain_ones():
    memory = MemoryRow(arena_bytes=numpy.int64(7), owned_peak_bytes=0, weights_bytes=0)
    data = dataclasses.replace(OPTIMIZED, memory=memory, original_share=numpy.float32(0.5)).to_dict()
    assert (type(data["memory"]["arena_bytes"]), type(data["original_share"])) == (int, float)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_null(value: float):
    row = dataclasses.replace(OPTIMIZED.verification, l2_rel=value)
    assert dataclasses.replace(OPTIMIZED, verification=row).to_dict()["verification"]["l2_rel"] is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("", [], "report is [], expected an object"),
        ("schema_version", 9, "schema_version is 9, expected 3; another tpopt wrote it"),
        ("result.status", "best", "report.result.status is 'best', expected one of optimized, original"),
        ("result.status", [], "report.result.status is [], expected one of optimized, original"),
        ("result.speedup", "2x", "report.result.speedup is '2x', expected a finite number or null"),
        ("result.speedup", float("inf"), "report.result.speedup is inf, expected a finite number or null"),
        ("result.speedup", 10**400, f"report.result.speedup is {'1' + 39 * '0'}..., expected a finite number or null"),
        ("verification.passed", 1, "report.verification.passed is 1, expected true or false or null"),
        ("memory.arena_bytes", True, "report.memory.arena_bytes is True, expected an integer"),
        ("memory.arena_bytes", None, "report.memory.arena_bytes is None, expected an integer"),
        ("choice.0.candidates.2", 3, "report.choice[0].candidates[2] is 3, expected an object"),
        ("kernels.0.source", "line", "report.kernels[0].source is 'line', expected a list"),
        ("kernels.0.source.0", None, "report.kernels[0].source[0] is None, expected text"),
        ("opaque.0", {}, "report.opaque[0] lacks target, name, source, reason"),
        ("work.flops", 1, "report.work has unknown keys: flops"),
    ],
)
def test_what_is_no_report_is_refused_at_the_place(path: str, value: Any, message: str):
    data = copy.deepcopy(OPTIMIZED.to_dict())
    parent, _, last = path.rpartition(".")
    if path:
        at(data, parent)[int(last) if last.isdigit() else last] = value
    with pytest.raises(CorruptFile) as caught:
        Report.from_dict(data if path else value)
    assert str(caught.value) == message


def test_a_whole_number_reads_as_a_float():
    data = {**OPTIMIZED.to_dict(), "compile_seconds": 3}
    assert repr(Report.from_dict(data).compile_seconds) == "3.0"


def test_a_report_survives_a_file(tmp_path: Path):
    write_report(OPTIMIZED, tmp_path / "run.json")
    assert read_report(tmp_path / "run.json") == OPTIMIZED
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "run.json"
    write_report(KEPT, file)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match=r"cannot write .*run.json: No space left on device; name a file"):
        write_report(OPTIMIZED, file)
    assert read_report(file) == KEPT
    assert [left.name for left in tmp_path.iterdir()] == ["run.json"]


def test_a_device_is_written_to_and_not_replaced():
    write_report(OPTIMIZED, Path("/dev/null"))
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"{", "is not JSON: Expecting property name"),
        (b"[" * 100_000, "is not JSON: "),
        (b"9" * 5000, "is not JSON: "),
        (b"{}", "run.json: report lacks result, environment"),
    ],
    ids=["bytes", "cut", "deep", "digits", "empty"],
)
def test_a_damaged_file_is_corrupt(content: bytes, message: str, tmp_path: Path):
    file = tmp_path / "run.json"
    file.write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        read_report(file)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read .*run.json: No such file"):
        read_report(tmp_path / "run.json")


def test_a_file_too_large_to_be_a_report_is_not_read(tmp_path: Path):
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(CorruptFile, match="larger than 256 MiB"):
        read_report(tmp_path / "run.json")


def test_verification_that_was_off_is_not_a_pass():
    assert VerificationRow().passed is None
