"""passes, coverage and bench: what they print, from stubs of what they list."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import pytest
import typer
from support.cli import Run

from tpopt.commands.passes import describe_pass, describe_pipeline
from tpopt.errors import PerformanceRegression
from tpopt.ir import Program
from tpopt.rewrite import Numerics, Pass, Registry, Trace, registry


@dataclass(frozen=True)
class Halve(Pass):
    """Halves the work.

    Not shown.
    """

    name: ClassVar[str] = "halve"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING
    depth: int
    limit: float = 1e-6
    names: Sequence[str] = field(default_factory=tuple)

    def run(self, program: Program, trace: Trace) -> Program:
        return program


@dataclass(frozen=True)
class Plain(Pass):
    name: ClassVar[str] = "plain"
    depth: int = 1

    def run(self, program: Program, trace: Trace) -> Program:
        return program


NOTHING: tuple[Pass, ...] = ()
ONE = (Plain(3), Plain())


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Registry:
    here = SimpleNamespace(Halve=Halve, NOTHING=NOTHING, ONE=ONE)
    monkeypatch.setitem(sys.modules, "own_passes", here)
    passes = {"gone": "no_such_module:Gone", "halve": "own_passes:Halve"}
    return Registry(passes, {"empty": "own_passes:NOTHING", "one": "own_passes:ONE"})


def test_a_pass_is_described_by_its_class(found: Registry):
    assert describe_pass(found, "halve") == {
        "name": "halve",
        "summary": "Halves the work.",
        "numerics": "rounding",
        "options": [
            {"name": "depth", "default": None},
            {"name": "limit", "default": "1e-06"},
            {"name": "names", "default": "()"},
        ],
        "problem": None,
    }


def test_a_pass_that_does_not_load_says_why(found: Registry):
    row = describe_pass(found, "gone")
    assert (row["numerics"], row["problem"]) == (
        None, "pass gone: cannot import no_such_module:Gone: No module named 'no_such_module'",
    )  # fmt: skip


def test_a_pipeline_is_spelled_as_text(found: Registry):
    assert describe_pipeline(found, "one") == {"name": "one", "passes": "plain{depth=3},plain", "problem": None}


def test_passes_as_text(found: Registry, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules["tpopt.rewrite.registry"], "registry", lambda: found)
    lines = [line.split(maxsplit=1)[1] for line in run("passes").out.splitlines() if line]
    assert lines[2] == "rounding   depth=..., limit=1e-06, names=()   Halves the work."
    assert lines[4:] == ["(nothing)", "plain{depth=3},plain"]


def test_passes_as_json_lists_every_registered_name(run: Run):
    data = json.loads(run("passes", "--json").out)
    everything = registry()
    assert [row["name"] for row in data["passes"]] == list(everything.passes)
    assert [row["name"] for row in data["pipelines"]] == list(everything.pipelines)


@dataclass
class Survey:
    checked: bool

    def to_dict(self) -> dict[str, Any]:
        return {"checked": self.checked}

    def __str__(self) -> str:
        return f"checked {self.checked}"


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> None:
    def coverage(*, check: bool) -> Survey:
        sys.stdout.write("a sample\n")
        return Survey(check)

    monkeypatch.setitem(sys.modules, "tpopt.frontend.coverage", SimpleNamespace(coverage=coverage))


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ([], "checked True\n"),
        (["--no-check"], "checked False\n"),
        (["--json"], '{\n  "checked": true\n}\n'),
        (["--json", "--no-check"], '{\n  "checked": false\n}\n'),
    ],
)
def test_coverage_prints_the_survey(arguments: list[str], out: str, run: Run, survey: None):
    ended = run("coverage", *arguments)
    assert (ended.code, ended.out, ended.err) == (0, out, "a sample\n")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    def bench(suite: str = "zoo", rounds: Annotated[int, typer.Option(min=0)] = 3, slow: bool = False) -> None:
        """Time things."""
        typer.echo(f"{suite} {rounds}")
        if slow:
            raise PerformanceRegression("1.2x slower")

    monkeypatch.setitem(sys.modules, "tpopt.bench.command", SimpleNamespace(bench=bench))


@pytest.mark.parametrize(
    ("arguments", "code", "out"),
    [
        ([], 0, "zoo 3\n"),
        (["--suite", "own.py", "--rounds", "5"], 0, "own.py 5\n"),
        (["--slow"], 5, "zoo 3\n"),
        (["--rounds", "-1"], 2, ""),
        (["surplus"], 2, ""),
    ],
)
def test_bench_parses_for_itself_and_ends_like_the_others(
    arguments: list[str], code: int, out: str, run: Run, bench: None
):
    ended = run("bench", *arguments)
    assert (ended.code, ended.out) == (code, out)


def test_bench_shows_tracebacks_on_request(run: Run, bench: None):
    ended = run("--traceback", "bench", "--slow")
    assert "Traceback" in ended.err
