from __future__ import annotations

from pathlib import Path

import pytest

from tpopt.report import SettingRow, record_environment
from tpopt.report.environment import processor, version

X86 = "model name\t: AMD EPYC 9R14\nflags\t\t: fpu avx2 sse4_2 avx512f smx\n\nmodel name\t: other\nflags\t: amx_tile\n"
ARM = "processor : 0\nFeatures\t: fp asimd sve i8mm\n"


@pytest.mark.parametrize(
    ("text", "isa"), [(X86, ("sse4_2", "avx2", "avx512f")), (ARM, ("asimd", "i8mm", "sve"))], ids=["x86", "arm"]
)
def test_instruction_sets_are_those_that_matter_in_a_fixed_order(text: str, isa: tuple[str, ...], tmp_path: Path):
    (tmp_path / "cpuinfo").write_text(text)
    assert processor(tmp_path / "cpuinfo")[1] == isa


def test_the_processor_is_named(tmp_path: Path):
    (tmp_path / "cpuinfo").write_text(X86)
    assert processor(tmp_path / "cpuinfo")[0] == "AMD EPYC 9R14"


def test_without_cpuinfo_there_are_no_instruction_sets(tmp_path: Path):
    assert processor(tmp_path / "absent")[1] == ()


def test_what_is_not_installed_is_missing():
    assert version("no-such-distribution") == "missing"


def test_settings_and_options_are_recorded_as_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    row = record_environment(threads=2, options={"effort": 5.0, "strict": False})
    assert SettingRow(name="OMP_NUM_THREADS", value="3") in row.settings
    assert row.options == (SettingRow(name="effort", value="5.0"), SettingRow(name="strict", value="False"))
    assert (row.threads, row.device) == (2, "cpu")
