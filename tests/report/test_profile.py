from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tpopt.report.profile import LISTED, Profile, StepRow


def step(name: str, us: float, roofline_us: float | None = None) -> StepRow:
    return StepRow(name=name, kind="gemm", us=us, low=us - 1, high=us + 1, roofline_us=roofline_us, bound="compute")


def profile(*steps: StepRow) -> Profile:
    begins = [sum(int(1e3 * s.us) for s in steps[:n]) for n in range(len(steps) + 1)]
    machine = {"gmacs_per_s": 90.0, "gbytes_per_s": 30.0, "call_us": 2.0}
    return Profile(
        steps=steps, call_us=120.0, low=110.0, high=130.0, rounds=9, threads=2, machine=machine,
        spans=tuple(pairwise(begins)),
    )  # fmt: skip


def test_the_share_counts_the_kernels_that_take_most_of_the_time():
    found = profile(step("tiny", 5.0, 0.01), step("long", 80.0, 40.0), step("middle", 20.0, 2.5))
    assert [s.name for s in found.longest] == ["long", "middle"]
    assert found.roofline_share == pytest.approx((0.5 * 0.125) ** 0.5)
    assert profile(step("unknown", 5.0)).roofline_share is None


def test_the_table_lists_the_longest_first():
    text = str(profile(step("short", 20.0, 10.0), step("long", 80.0, 60.0)))
    assert text.splitlines()[0] == (
        "120.0 µs a call [110.0, 130.0], median of 9; 100.0 µs in 2 kernels, each timed in the call, 2 threads"
    )
    assert text.splitlines()[1].startswith("roofline: 90.0 GMAC/s, 30.0 GB/s from memory; the kernels that take 90 %")
    rows = [line.split() for line in text.splitlines()[4:]]
    assert [row[0] for row in rows] == ["80.0", "20.0"]
    assert rows[0][3:5] == ["80.0", "75"]


def test_the_table_counts_what_it_leaves_out():
    text = str(profile(*(step(f"k{n}", float(n)) for n in range(1, LISTED + 6))))
    assert text.rstrip().endswith("and 5 shorter ones")


def test_every_figure_is_in_the_json():
    data = json.loads(json.dumps(profile(step("a", 80.0, 60.0)).to_dict(), allow_nan=False))
    assert data["steps"][0]["roofline_share"] == 0.75
    assert (data["kernels_us"], data["call_us"], data["machine"]["gmacs_per_s"]) == (80.0, 120.0, 90.0)
    assert "spans" not in data
