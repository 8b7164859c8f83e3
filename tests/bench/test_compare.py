"""Comparison with a baseline: counts exactly, times by their whole interval."""

from __future__ import annotations

import copy

import pytest

from tpopt.bench import BenchConfig, Run, compare_runs
from tpopt.errors import PerformanceRegression, UsageError

ROW = {
    "name": "net",
    "status": "ok",
    "reason": None,
    "ratio": {},
    "kernels": {"conv": 3, "linear": 1},
    "opaque": [],
    "work": {"macs_before": 100, "macs_after": 80, "bytes_before": 1000, "bytes_after": 900},
    "memory": {"arena_bytes": 4096},
}


def run(choice: str = "model", models: tuple[str, ...] | None = None, **changes) -> Run:
    row = copy.deepcopy(ROW)
    for key, value in changes.items():
        group = next((group for group in ("work", "memory") if key in row[group]), None)
        (row if group is None else row[group])[key] = value
    return Run(BenchConfig(choice=choice, models=models), {}, [row])


def speed(median: float, low: float, high: float, peer: str = "eager") -> dict:
    return {peer: {"median": median, "low": low, "high": high}}


def verdicts(base: Run, new: Run, **options) -> dict[str, str]:
    return {f.figure: f.verdict for f in compare_runs(base, new, **options).findings if f.verdict != "same"}


def test_the_same_figures_pass():
    comparison = compare_runs(run(), run())
    assert comparison.failing() == ()
    assert str(comparison) == "as in the baseline: 7 of 7 figures"
    comparison.check()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"macs_after": 81}, {"macs_after": "worse"}),
        ({"macs_after": 79}, {"macs_after": "better"}),
        ({"bytes_after": 901}, {"bytes_after": "worse"}),
        ({"arena_bytes": 4160}, {"arena_bytes": "worse"}),
        ({"arena_bytes": 64}, {"arena_bytes": "better"}),
        ({"macs_before": 99}, {"macs_before": "changed"}),
        ({"bytes_before": 999}, {"bytes_before": "changed"}),
        ({"opaque": [{"target": "aten.foo"}]}, {"opaque": "worse"}),
        ({"kernels": {"conv": 4, "linear": 1}}, {"kernels": "worse"}),
        ({"kernels": {"conv": 3}}, {"kernels": "better"}),
        ({"kernels": {"conv": 2, "linear": 1, "winograd": 1}}, {"kernels": "changed"}),
        ({"status": "failed", "reason": "no"}, {"status": "worse"}),
        ({"arena_bytes": None}, {"arena_bytes": "changed"}),
    ],
)
def test_each_counted_figure_has_a_verdict(change, verdict):
    assert verdicts(run(), run(**change)) == verdict


def test_a_regression_exits_with_5_and_says_how_to_accept_it():
    comparison = compare_runs(run(), run(macs_after=81, kernels={"winograd": 4}))
    with pytest.raises(PerformanceRegression) as raised:
        comparison.check()
    assert raised.value.exit_code == 5
    assert str(raised.value) == (
        "net macs_after: 80 → 81 (worse); net kernels: conv 3, linear 1 → winograd 4 (changed). "
        "If this is meant, save a new baseline: tpopt bench --json FILE"
    )


def test_an_improvement_passes():
    compare_runs(run(), run(macs_after=1, arena_bytes=0)).check()


def test_counts_of_measured_choices_are_not_compared():
    base, new = run(ratio=speed(2, 1.9, 2.1)), run("measured", macs_after=1000, ratio=speed(2, 1.9, 2.1))
    assert verdicts(base, new) == {}


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (speed(1.0, 0.95, 1.05), {"speed / eager": "worse"}),
        (speed(1.85, 1.80, 1.95), {}),  # slower at the median by 8 %, but 1.9 / 1.95 is within the threshold
        (speed(1.80, 1.78, 1.80), {"speed / eager": "worse"}),  # 1.9 / 1.80 is beyond 1.05
        (speed(3.0, 2.9, 3.1), {"speed / eager": "better"}),
    ],
)
def test_time_counts_only_when_the_whole_interval_is_beyond_the_threshold(ratio, verdict):
    base = run("measured", ratio=speed(2.0, 1.9, 2.1))
    assert verdicts(base, run("measured", ratio=ratio), threshold=1.05) == verdict


def test_a_wider_threshold_forgives_more():
    base, new = run("measured", ratio=speed(2.0, 1.9, 2.1)), run("measured", ratio=speed(1.8, 1.78, 1.8))
    assert verdicts(base, new, threshold=1.10) == {}


def test_another_shared_peer_is_the_yardstick_when_eager_is_not():
    base = run("measured", ratio=speed(2.0, 1.9, 2.1, "inductor"))
    new = run("measured", ratio=speed(1.0, 0.9, 1.1, "inductor") | speed(9, 9, 9))
    assert verdicts(base, new) == {"speed / inductor": "worse"}


def test_a_model_that_is_gone_is_worse_unless_it_was_not_asked_for():
    base = run()
    gone = Run(BenchConfig(choice="model"), {}, [])
    assert verdicts(base, gone) == {"status": "worse"}
    assert verdicts(Run(base.config, {}, [ROW, {**ROW, "name": "other"}]), run(models=("net",))) == {}


def test_a_model_that_failed_before_and_runs_now_is_better():
    assert verdicts(run(status="failed", reason="no"), run()) == {"status": "better"}


@pytest.mark.parametrize(
    ("base", "new", "options", "message"),
    [
        (run(), run(), {"threshold": 0.9}, "threshold=0.9"),
        (run("measured"), run("measured"), {}, "no figure in common"),
        (run(), Run(BenchConfig(suite="other", choice="model"), {}, []), {}, "baseline is of suite 'zoo'"),
    ],
)
def test_what_cannot_be_compared_is_refused(base, new, options, message):
    with pytest.raises(UsageError, match=message):
        compare_runs(base, new, **options)


def test_the_table_shows_what_differs():
    text = str(compare_runs(run(), run(macs_after=81)))
    assert text.splitlines()[0].split() == ["model", "figure", "baseline", "now", "verdict"]
    assert text.splitlines()[2].split() == ["net", "macs_after", "80", "81", "worse"]
    assert text.splitlines()[-1] == "as in the baseline: 6 of 7 figures"
