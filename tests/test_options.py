from __future__ import annotations

import math
from pathlib import Path

import pytest

from tpopt import Options
from tpopt.errors import UnknownName, UsageError


@pytest.mark.parametrize(
    ("effort", "seconds"), [("fast", 60.0), ("balanced", 120.0), ("max", 600.0), (5, 5.0), (0.5, 0.5)]
)
def test_effort_is_a_number_of_seconds(effort: str | float, seconds: float):
    assert Options(effort=effort).effort_seconds() == seconds


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (
            "effort",
            "slow",
            "effort='slow': expected 'fast' or 'balanced' or 'max', or a finite number of seconds above 0",
        ),
        ("effort", 0, "effort=0: expected"),
        ("effort", True, "effort=True: expected"),
        ("effort", math.inf, "effort=inf: expected"),
        ("choice", "guess", "choice='guess': expected 'measured' or 'model'"),
        ("kernels", "mine", "kernels='mine': expected 'all' or 'library' or 'generated'"),
        ("verify", 1, "verify=1: expected True or False"),
        ("gate", "yes", "gate='yes': expected True or False"),
        ("strict", None, "strict=None: expected True or False"),
        ("tolerance", 0.0, "tolerance=0.0: expected a finite relative error above 0"),
        ("tolerance", math.nan, "tolerance=nan: expected"),
        ("tolerance", "1e-5", "tolerance='1e-5': expected"),
        ("pipeline", None, "pipeline=None: expected a pipeline"),
        ("records", 3, "records=3: expected a path"),
        ("exclude", "encoder.*", "exclude='encoder.*': expected a tuple of module names"),
        ("exclude", (1,), "exclude=(1,): expected a tuple of module names"),
        ("seed", -1, "seed=-1: expected an integer of at least 0"),
        ("seed", True, "seed=True: expected an integer"),
        ("progress", "bar", "progress='bar': expected a function of (stage, fraction)"),
        ("progress", abs, "progress=<built-in function abs>: expected a function of (stage, fraction)"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: object, said: str):
    with pytest.raises(UsageError) as caught:
        Options(**{field: value})
    assert str(caught.value).startswith(said)


def test_an_unknown_override_lists_the_fields():
    with pytest.raises(UnknownName, match="unknown option 'efort'; did you mean 'effort'") as caught:
        Options.of(None, {"efort": "fast"})
    assert caught.value.valid == tuple(sorted(Options.__slots__))


def test_overrides_replace_fields_and_leave_the_base_alone():
    base = Options(seed=3)
    assert Options.of(base, {"effort": "max"}) == Options(seed=3, effort="max")
    assert base == Options(seed=3)


def test_overrides_are_validated_too():
    with pytest.raises(UsageError, match="seed=-1"):
        Options.of(Options(), {"seed": -1})


def test_options_that_are_not_options_are_refused():
    with pytest.raises(UsageError, match=r"options=\{'seed': 1\}: expected tpopt.Options"):
        Options.of({"seed": 1}, {})  # type: ignore[type-var]


def test_a_list_of_patterns_becomes_a_tuple():
    assert Options(exclude=["a.*", "b"]).exclude == ("a.*", "b")


def test_records_takes_a_path():
    assert Options(records=Path("r.sqlite")).records == Path("r.sqlite")
