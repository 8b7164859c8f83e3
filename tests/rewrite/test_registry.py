"""Names of passes: importers that load nothing before they are asked, plugins, and clashes that name both owners."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from tpopt.errors import TpoptError, UnknownName, UsageError
from tpopt.rewrite import Pass, registry
from tpopt.rewrite.registry import PASS_GROUP, PIPELINE_GROUP

NAMES = registry(()).passes


def modules_after(code: str) -> set[str]:
    """What a fresh interpreter has imported after running some code."""
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_name_loads_the_pass_of_that_name(name: str):
    kind = registry(()).load_pass(name)
    assert issubclass(kind, Pass)
    assert kind.name == name
    assert kind() == kind()


@pytest.mark.parametrize("name", NAMES)
def test_every_pass_documents_law_example_and_numerics(name: str):
    text = registry(()).load_pass(name).__doc__ or ""
    assert text.split()[0] in ("Replaces", "Drops", "Offers")
    assert "Given::" in text
    assert "Result::" in text or "Offers::" in text
    assert f"Numerics: {registry(()).load_pass(name).numerics}" in " ".join(text.split())


def test_listing_names_imports_no_pass():
    assert modules_after("from tpopt.rewrite import registry; registry().passes") & {"torch", "tpopt.passes"} == set()


def test_passes_do_without_torch():
    loaded = modules_after("from tpopt.rewrite import registry; registry().parse('default')")
    assert loaded & {"torch", "tpopt.passes"} == {"tpopt.passes"}


def test_a_pipeline_stands_for_its_passes():
    found = registry(())
    assert found.parse("none").passes == ()
    assert found.parse("default").passes == found.load_pipeline("default")
    assert str(found.parse("none,dead_code,simplify{states=5}")) == "dead-code,simplify{states=5}"


def test_an_unknown_name_lists_passes_and_pipelines():
    with pytest.raises(UnknownName, match=r"unknown pass or pipeline 'simplfy'; did you mean 'simplify'\?.*default"):
        registry(()).parse("simplfy")


def test_plugins_add_passes_and_pipelines():
    points = [
        EntryPoint("other", "tpopt.passes.dead_code:DeadCode", PASS_GROUP),
        EntryPoint("mine", "tpopt.passes.pipelines:CLEANUP", PIPELINE_GROUP),
    ]
    found = registry(points)
    assert found.load_pass("other").name == "dead-code"
    assert found.parse("mine").passes == found.load_pipeline("cleanup")


def test_two_owners_of_a_name_are_both_named():
    point = EntryPoint("simplify", "elsewhere:Simplify", PASS_GROUP)
    with pytest.raises(
        UsageError, match=r"'simplify' is claimed by tpopt\.passes\.simplify:Simplify and by elsewhere:Simplify"
    ):
        registry([point])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no.such.module:Pass", "pass broken: cannot import no.such.module:Pass"),
        ("tpopt.rewrite:Nothing", "pass broken: cannot import tpopt.rewrite:Nothing"),
        ("tpopt.rewrite:Trace", "which is no subclass of tpopt.rewrite.Pass"),
    ],
)
def test_a_broken_plugin_is_named(value: str, message: str):
    with pytest.raises(TpoptError, match=message):
        registry([EntryPoint("broken", value, PASS_GROUP)]).load_pass("broken")
