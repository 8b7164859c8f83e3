"""``name{field=value,...},name``: parsing, spelling, and errors that say what is valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from tpopt.errors import ParseError, UnknownName, UsageError
from tpopt.ir import Program
from tpopt.rewrite import Pass, Trace, spell
from tpopt.rewrite.spelling import construct, split


@dataclass(frozen=True)
class Sample(Pass):
    name: ClassVar[str] = "sample"
    count: int = 3
    ratio: float = 0.5
    on: bool = False
    mode: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    limit: int | None = None

    def run(self, program: Program, trace: Trace) -> Program:
        return program


def parsed(text: str) -> Pass:
    (entry,) = split(text)
    return construct(Sample, entry.options)


def test_splits_outside_brackets_and_quotes():
    entries = split(" a , b{x=1,y=(1,2)}, c-d{z='p,q}'}")
    assert [(e.name, e.options) for e in entries] == [
        ("a", ()),
        ("b", (("x", "1"), ("y", "(1,2)"))),
        ("c-d", (("z", "'p,q}'"),)),
    ]


def test_empty_text_is_no_pass():
    assert split("  ") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sample", Sample()),
        ("sample{}", Sample()),
        ("sample{count=5}", Sample(count=5)),
        ("sample{ratio=2}", Sample(ratio=2.0)),
        ("sample{ratio=1e-3}", Sample(ratio=1e-3)),
        ("sample{on=true}", Sample(on=True)),
        ("sample{on=False}", Sample(on=False)),
        ("sample{mode=b}", Sample(mode="b")),
        ("sample{names=('p','q')}", Sample(names=("p", "q"))),
        ("sample{limit=7}", Sample(limit=7)),
        ("sample{limit=none}", Sample()),
    ],
)
def test_values_follow_the_fields(text: str, expected: Sample):
    assert parsed(text) == expected
    assert parsed(spell(expected)) == expected


def test_spelling_omits_defaults():
    assert spell(Sample()) == "sample"
    assert str(Sample(count=1, mode="b")) == "sample{count=1,mode='b'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample{count=x}", "pass sample: count=x is str, expected int"),
        ("sample{count=true}", "pass sample: count=true is bool, expected int"),
        ("sample{count=1.5}", "pass sample: count=1.5 is float, expected int"),
        ("sample{mode=c}", "pass sample: mode=c is str, expected"),
        ("sample{names=(1,)}", r"pass sample: names=\(1,\) is tuple, expected"),
        ("sample{count=1,count=2}", "pass sample: option count is given twice"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        parsed(text)


def test_an_unknown_option_lists_the_fields():
    with pytest.raises(
        UnknownName, match=r"unknown option of pass sample 'cuont'; did you mean 'count'\?.*limit, mode, names"
    ):
        parsed("sample{cuont=1}")


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("a,,b", "expected the name of a pass", 3),
        ("a b", "expected {field=value,...} or a comma after a", 2),
        ("a{x=1", "'}' is missing", 2),
        ("a}", "'}' closes nothing", 2),
        ("a{x}", "expected field=value, got 'x'", 3),
        ("a{x=}", "expected field=value, got 'x='", 3),
        ("a{x='p}", '"\'" is not closed', 8),
    ],
)
def test_errors_point_at_the_character(text: str, message: str, column: int):
    with pytest.raises(ParseError) as error:
        split(text)
    assert (str(error.value).partition(" (line")[0], error.value.column) == (message, column)


def test_a_value_that_is_nearly_python_is_a_text_and_no_warning():
    with pytest.raises(UsageError, match="count=1if is str"):
        construct(Sample, (("count", "1if"),))
