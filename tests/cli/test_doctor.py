from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Run

from tpopt.commands import checks, doctor
from tpopt.commands.checks import Check
from tpopt.report.environment import CHANGE_SPEED

GOMP = "7f00-7f01 r-xp 00000000 08:01 1    /site/torch/lib/libgomp.so.1\n"
IOMP = "7f02-7f03 r-xp 00000000 08:01 2    /opt/intel/libiomp5.so\n"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu", "apache-tvm-ffi": "0.1.15.post2", "rich": "13.0", "numpy": "2.4"}
    monkeypatch.setattr(checks, "version", lambda name: versions.get(name, "missing"))


def test_a_requirement_that_is_met_has_no_advice(installed: None):
    assert checks.requirement("torch<2.14,>=2.11") == Check("torch", "2.13.0+cpu (requires <2.14,>=2.11)")


def test_a_pin_that_is_not_met_says_what_to_install(installed: None):
    assert checks.requirement("apache-tvm-ffi<0.1.15,>=0.1.14.post0") == Check(
        "apache-tvm-ffi",
        "0.1.15.post2 (requires <0.1.15,>=0.1.14.post0)",
        "warn",
        "pip install 'apache-tvm-ffi<0.1.15,>=0.1.14.post0'",
    )


def test_the_others_share_a_row_unless_they_are_wrong_and_extras_are_not_required(installed: None):
    lines = ["torch>=2.11", "rich>=13.7", "numpy>=1.26", "scipy", 'onnx>=1.17; extra == "bench"']
    assert [(row.name, row.value, row.status) for row in checks.requirements(lines)] == [
        ("torch", "2.13.0+cpu (requires >=2.11)", "ok"),
        ("rich", "13.0 (requires >=13.7)", "warn"),
        ("scipy", "missing", "warn"),
        ("other libraries", "1 as required", "ok"),
    ]


@pytest.mark.parametrize(
    ("row", "status", "advice"),
    [
        (checks.load(0.5, 2), "ok", ""),
        (checks.load(3.0, 2), "warn", "other programs are running"),
        (checks.threads(2, 2), "ok", ""),
        (checks.threads(8, 2), "warn", "more threads than cores: torch.set_num_threads(2), or OMP_NUM_THREADS=2"),
        (checks.openmp({"OMP_NUM_THREADS": "2"}, 2), "ok", ""),
        (checks.openmp({"OMP_NUM_THREADS": "4"}, 2), "warn", "more threads than cores: unset OMP_NUM_THREADS"),
        (checks.openmp_runtimes(GOMP * 3), "ok", ""),
        (checks.openmp_runtimes(GOMP + IOMP), "warn", "two pools of threads"),
        (checks.gpu([], driver=False), "ok", ""),
        (checks.gpu([], driver=True), "warn", "the machine has a GPU, but this torch cannot use it"),
        (checks.gpu(["H200"], driver=True), "ok", ""),
        (checks.cuda_compiler(None, needed=False), "ok", ""),
        (checks.cuda_compiler(None, needed=True), "warn", "pip install 'tpopt[cuda]'"),
    ],
)
def test_a_warning_comes_with_what_to_do(row: Check, status: str, advice: str):
    assert row.status == status
    assert row.advice.startswith(advice)
    assert bool(row.advice) is (status == "warn")


def test_the_openmp_runtimes_are_named():
    assert checks.openmp_runtimes(IOMP + GOMP).value == "libgomp.so.1, libiomp5.so"


@pytest.mark.parametrize(
    ("text", "value"), [(GOMP, "glibc"), ("/usr/lib/libjemalloc.so.2\n", "jemalloc")], ids=["glibc", "jemalloc"]
)
def test_the_allocator_is_named(text: str, value: str):
    assert checks.allocator(text).value.startswith(value)


@pytest.mark.parametrize(("text", "status"), [("max 100000\n", "ok"), ("150000 100000\n", "warn")])
def test_a_container_with_less_time_than_cores_is_found(
    text: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checks, "usable_cores", lambda: 2)
    (tmp_path / "cpu.max").write_text(text)
    row = checks.cores(tmp_path / "cpu.max")
    assert row.status == status
    assert row.advice in ("", "threads wait for each other: set OMP_NUM_THREADS=1")


@pytest.mark.parametrize(("name", "status"), [("powersave\n", "warn"), ("performance\n", "ok")])
def test_the_governor_is_judged(name: str, status: str, tmp_path: Path):
    (tmp_path / "governor").write_text(name)
    assert checks.governor(tmp_path / "governor").status == status


def test_no_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    assert checks.compiler({}).status == "warn"


def test_the_compiler_that_the_user_names_comes_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks.shutil, "which", lambda name: f"/bin/{name}")
    assert checks.compiler({"CXX": "own++"}).value == "/bin/own++"


def test_a_cache_that_cannot_be_a_folder_is_a_warning(tmp_path: Path):
    (tmp_path / "file").touch()
    row = checks.cache(tmp_path / "file" / "tpopt")
    assert (row.status, row.advice.startswith("it cannot be written")) == ("warn", True)


def test_a_cache_that_does_not_exist_yet_is_fine(tmp_path: Path):
    assert checks.cache(tmp_path / "a" / "b").value.startswith(f"{tmp_path / 'a' / 'b'} (")


def test_the_text_counts_the_warnings(run: Run, monkeypatch: pytest.MonkeyPatch):
    rows = [Check("torch", "2.13"), Check("cores", "2 of 8", "warn", "do this")]
    monkeypatch.setattr(doctor, "examine", lambda: rows)
    assert run("doctor").out == (
        "  status   check   found\n  ok       torch   2.13\n  warn     cores   2 of 8  -> do this\n\n1 warning\n"
    )


def test_json_has_a_row_for_each_check_and_variables_on_request(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    plain, full = (json.loads(run("doctor", "--json", *more).out) for more in ([], ["--env"]))
    assert [list(row) for row in plain["checks"]] == [["name", "value", "status", "advice"]] * len(plain["checks"])
    assert {
        "python",
        "torch",
        "apache-tvm",
        "apache-tvm-ffi",
        "ortools",
        "torch threads",
        "cache",
        "compiler",
        "cuda compiler",
    } <= {row["name"] for row in plain["checks"]}
    assert "variables" not in plain
    assert {"name": "NO_COLOR", "value": "1", "meaning": "any text: no colours on stderr"} in full["variables"]


def test_every_variable_that_a_report_records_is_listed():
    assert [name for name in CHANGE_SPEED if name not in doctor.VARIABLES] == []


IN_A_PROCESS = """
import sys
from tpopt.cli import main
try:
    main(["doctor"])
finally:
    sys.stderr.write(f"TVM {'tvm' in sys.modules}")
"""


def test_doctor_does_not_import_tvm():
    done = subprocess.run([sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("TVM False")
