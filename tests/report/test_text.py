from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from support.reports import KEPT, OPTIMIZED, REFUSED

from tpopt.report import CandidateRow, KernelRow, OpaqueRow, Report, VerificationRow

Golden = Callable[[str, str], None]
REPORTS = {"optimized": OPTIMIZED, "kept": KEPT, "refused": REFUSED}


@pytest.mark.parametrize("name", REPORTS)
def test_the_table_is_as_read_by_a_person(name: str, golden: Golden):
    golden(f"report/{name}.txt", f"{REPORTS[name]}\n")


@pytest.mark.parametrize("name", REPORTS)
def test_the_explanation_is_as_read_by_a_person(name: str, golden: Golden):
    golden(f"report/{name}.explain.txt", f"{REPORTS[name].explain()}\n")


@pytest.mark.parametrize(
    "terminal",
    [
        {"COLUMNS": "20", "LINES": "5"},
        {"FORCE_COLOR": "1", "TERM": "xterm-256color"},
        {"NO_COLOR": "1", "TERM": "dumb"},
    ],
    ids="-".join,
)
def test_the_terminal_changes_nothing(terminal: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    expected = str(OPTIMIZED), OPTIMIZED.explain()
    for name, value in terminal.items():
        monkeypatch.setenv(name, value)
    assert (str(OPTIMIZED), OPTIMIZED.explain()) == expected


def test_a_long_source_line_is_neither_cut_nor_wrapped():
    source = f"net.py:1 {'x + ' * 500}x"
    report = dataclasses.replace(
        OPTIMIZED, kernels=(KernelRow(kind="gemm", name="y", source=(source,), measured_us=1.0),)
    )
    assert sum(line.endswith(source) for line in str(report).splitlines()) == 1


def test_square_brackets_are_text_and_not_markup():
    report = dataclasses.replace(OPTIMIZED, kernels=(KernelRow(kind="[red]gemm", name="x[/0]", measured_us=1.0),))
    assert "[red]gemm   x[/0]" in str(report)


def test_escape_sequences_of_a_saved_report_do_not_reach_the_terminal():
    hostile = OpaqueRow(target="aten.x", name="\x1b[2J", source=("a\nb",), reason="\ud800")
    text = str(dataclasses.replace(REFUSED, opaque=(hostile,)))
    assert r"\x1b[2J   \ud800   a\nb" in text
    assert text.encode("utf-8").isascii()


def test_no_line_ends_in_spaces():
    assert [line for line in f"{OPTIMIZED}\n{OPTIMIZED.explain()}".splitlines() if line != line.rstrip()] == []


def test_the_slowest_come_first_and_only_five_of_them():
    kernels = tuple(KernelRow(kind="gemm", name=f"k{i}", measured_us=float(i)) for i in range(1, 9))
    text = str(dataclasses.replace(OPTIMIZED, kernels=kernels))
    section = text[text.index("slowest kernels") :].splitlines()[1:7]
    assert [line.split()[-1] for line in section if line] == ["k8", "k7", "k6", "k5", "k4"]


def test_a_measured_time_counts_before_a_predicted_one():
    kernels = (
        KernelRow(kind="a", name="a", predicted_us=900.0, measured_us=100.0),
        KernelRow(kind="b", name="b", predicted_us=300.0),
    )
    text = str(dataclasses.replace(OPTIMIZED, kernels=kernels))
    assert "1       300.0        75.0   b" in text
    assert "1       100.0        25.0   a" in text


def test_a_long_list_says_how_many_it_left_out():
    opaque = tuple(OpaqueRow(target="aten.x", name=f"x{i}", source=(), reason="none") for i in range(23))
    text = str(dataclasses.replace(OPTIMIZED, opaque=opaque))
    assert "x19 " in text
    assert "x20" not in text
    assert "... and 3 more, in to_dict()" in text


def test_a_failed_verification_cannot_be_overlooked():
    failed = VerificationRow(programs=1, l2_rel=0.5, max_abs=2.0, tolerance=1e-5, seed=0, passed=False)
    text = str(dataclasses.replace(OPTIMIZED, verification=failed))
    assert "NOT VERIFIED: 1 input set, relative L2 error 5.0e-01 (allowed 1.0e-05), max abs 2.0e+00, seed 0" in text


def test_a_price_is_a_measured_one_only_with_an_interval():
    predicted = CandidateRow(name="x", kind="gemm", price_us=2.0, status="lost")
    measured = dataclasses.replace(predicted, low_us=1.0, high_us=3.0)
    assert (predicted.measured_us, measured.measured_us) == (None, 2.0)


def test_candidates_are_ranked_by_verdict_then_price_whatever_their_order():
    backwards = dataclasses.replace(OPTIMIZED.choice[0], candidates=OPTIMIZED.choice[0].candidates[::-1])
    report = dataclasses.replace(OPTIMIZED, choice=(backwards, OPTIMIZED.choice[1]))
    assert report.explain() == OPTIMIZED.explain()


def test_ten_thousand_kernels_print_as_one_screen():
    many: Report = dataclasses.replace(OPTIMIZED, kernels=OPTIMIZED.kernels * 2500, opaque=OPTIMIZED.opaque * 10_000)
    assert len(str(many).splitlines()) < 80
