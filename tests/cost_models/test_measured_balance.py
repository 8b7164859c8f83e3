"""The balance of a machine: measured once, kept in the records, not measured while others hold the cores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tpopt.backend import machine
from tpopt.backend.machine import COPY_BYTES, GEMM_SIDE, known_balance, measured_balance
from tpopt.commands import doctor
from tpopt.cost_models.roofline import Balance
from tpopt.store.records import Record, Records

CPU = torch.device("cpu")
TIMES = {"gemm": 5000.0, "copy": 4000.0, "call": 1.5, "primitive": 11.0}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each measurement of these times, by the kind of device."""
    done: list[str] = []

    def measure(device: torch.device, side: int) -> dict[str, Record]:
        done.append(device.type)
        return {name: Record(us, us, us, 3) for name, us in TIMES.items()}

    monkeypatch.setattr(machine, "_measure", measure)
    return done


def test_rates_follow_from_the_times_and_shares_are_the_defaults(tmp_path: Path, measured: list[str]):
    found = measured_balance(CPU, Records(tmp_path / "r.json", "here"))
    assert found == Balance(GEMM_SIDE**3 / 5000, 2 * COPY_BYTES / 4000, 1.5, 11.0)
    assert found.efficiency == Balance().efficiency


def test_it_is_measured_once_for_each_machine(tmp_path: Path, measured: list[str]):
    found = [measured_balance(CPU, Records(tmp_path / "r.json", name)) for name in ("here", "here", "there", "here")]
    assert len(measured) == 2
    assert found == [found[0]] * 4


def test_a_record_that_is_missing_is_measured_again(tmp_path: Path, measured: list[str]):
    records = Records(tmp_path / "r.json", "here")
    records.put("balance: one call", Record(9.0, 9.0, 9.0, 3))
    assert measured_balance(CPU, records).call_us == 1.5


def test_a_time_of_zero_divides_nothing(tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TIMES, "copy", 0.0)
    assert measured_balance(CPU, Records(tmp_path / "r.json", "here")).bytes_per_us == pytest.approx(2e3 * COPY_BYTES)


def test_what_disturbed_cores_yield_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine.time, "process_time", lambda: 0.0)  # none of the time was ours
    assert known_balance(CPU, Records(tmp_path / "r.json", "here")) is None
    assert not (tmp_path / "r.json").exists()
    row = doctor.balance(tmp_path / "r.json")
    assert (row.status, row.value.split(",")[:2]) == ("warn", ["90 GMAC/s", " 33 GB/s"])


def test_a_named_file_remembers_that_the_default_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_measure", lambda *_: None)
    assert measured_balance(CPU, Records(tmp_path / "r.json", "here")) == Balance()
    monkeypatch.setattr(machine, "_measure", lambda *_: pytest.fail("what decides this compilation is in the file"))
    assert measured_balance(CPU, Records(tmp_path / "r.json", "here")) == Balance()


def test_the_shared_records_are_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as busy:
        busy.setattr(machine, "_measure", lambda *_: None)
        assert measured_balance(CPU, Records(None, "here")) == Balance()
    assert measured_balance(CPU, Records(None, "here")).call_us == 1.5
    assert measured == ["cpu"]


def test_real_probes_are_quick_and_plausible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_undisturbed", lambda *_: True)
    found = measured_balance(CPU, Records(tmp_path / "r.json", "here"))
    assert 10 < found.macs_per_us < 1e8
    assert 10 < found.bytes_per_us < 1e7
    assert found.call_us > 0.1
    assert found.primitive_us > 0.1


def test_the_doctor_shows_it(tmp_path: Path, measured: list[str]):
    row = doctor.balance(tmp_path / "r.json")
    assert (row.status, row.advice) == ("ok", "")
    assert row.value == "91 GMAC/s, 34 GB/s, 1.5 µs a call, 11.0 µs a oneDNN primitive"
    assert doctor.balance(tmp_path / "r.json") == row
    assert measured == ["cpu"]
