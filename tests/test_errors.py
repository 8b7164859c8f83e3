from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from tpopt import errors
from tpopt.errors import ParseError, TpoptError, UnknownName

DOCS = Path(__file__).parents[1] / "docs" / "exit_codes.md"
TREE = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TpoptError)}
EXAMPLES = [kind("what, where, and the way out") for kind in TREE.values() if kind not in (UnknownName, ParseError)]
EXAMPLES += [UnknownName("pass", "fold", ["fold-constants"]), ParseError("expected ']'", line=1, column=3, text="x[")]


def test_unknown_name_suggests_the_nearest_and_lists_all():
    error = UnknownName("pass", "fold-constant", ["dead-code", "fold-constants"])
    said = "unknown pass 'fold-constant'; did you mean 'fold-constants'? Valid names: dead-code, fold-constants"
    assert str(error) == said


def test_unknown_name_without_a_near_one_makes_no_suggestion():
    assert str(UnknownName("peer", "zzz", ["eager"])) == "unknown peer 'zzz'. Valid names: eager"


def test_unknown_name_lists_in_the_same_order_whatever_the_order_given():
    assert UnknownName("pass", "x", ["b", "a", "c"]).valid == ("a", "b", "c")


def test_parse_error_points_at_the_column():
    error = ParseError("expected ']'", line=2, column=5, text="first\n  x[i\n")
    assert str(error) == "expected ']' (line 2, column 5)\n    x[i\n      ^"


def test_parse_error_past_the_end_still_prints():
    assert str(ParseError("unexpected end", line=9, column=1, text="x")).startswith("unexpected end (line 9, column 1)")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_fields(error: TpoptError):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("UnknownName", LookupError),
        ("UsageError", ValueError),
        ("GuardFailed", RuntimeError),
        ("UnsupportedInput", TypeError),
    ],
)
def test_an_error_is_also_the_builtin_kind(name: str, builtin: type[Exception]):
    assert issubclass(TREE[name], builtin)


def test_the_drawn_tree_is_the_tree():
    drawn = re.findall(r"^ {4}[│├└─ ]*(\w+) +(?:\((\w+)\))? +(\d)", errors.__doc__ or "", re.MULTILINE)
    actual = [(name, _second_base(kind), str(kind.exit_code)) for name, kind in TREE.items()]
    assert drawn == actual


def test_the_documented_exit_codes_are_those_of_the_errors():
    rows = re.findall(r"^\| (\d) \|.*\| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert documented == {name: kind.exit_code for name, kind in TREE.items()}


def _second_base(kind: type[TpoptError]) -> str:
    return next(
        (base.__name__ for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception), ""
    )
