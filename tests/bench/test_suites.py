"""Where suites are found, and what is said when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tree import ROOT

import tpopt
from tpopt.bench.suites import load_suite, select_models
from tpopt.errors import UnknownName, UsageError

SUITES = Path(__file__).parent / "suites"


def test_the_zoo_is_found_from_any_folder_of_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT / "docs")
    assert list(load_suite("zoo"))[:2] == ["resnet18", "dcgan"]


def test_outside_of_a_checkout_the_message_says_where_the_zoo_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tpopt, "__file__", str(tmp_path / "site-packages" / "tpopt" / "__init__.py"))
    with pytest.raises(UsageError, match="examples/zoo is in tpopt's source tree, not in the installed package"):
        load_suite("zoo")


def test_a_file_or_a_package_is_a_suite(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "parts.py").write_text("def build():\n    return None, ()\n")
    (package / "__init__.py").write_text("from mine.parts import build\nZOO = {'it': build}\n")
    assert list(load_suite(str(package))) == ["it"]
    assert list(load_suite(str(SUITES / "tiny.py"))) == ["first", "crash", "broken", "hang", "last"]


def test_a_module_that_can_be_imported_is_a_suite(monkeypatch):
    monkeypatch.syspath_prepend(SUITES)
    assert "first" in load_suite("tiny")


def test_a_module_of_the_same_name_in_the_way_is_reported(tmp_path):
    (tmp_path / "json.py").write_text("ZOO = {'it': None}\n")
    with pytest.raises(UsageError, match="another module named 'json' is in the way"):
        load_suite(str(tmp_path / "json.py"))


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (str(SUITES / "empty.py"), "empty has no ZOO"),
        ("no_such_suite", r"neither a suite \(zoo, .*, structured\), nor a path, nor a module"),
    ],
)
def test_what_is_no_suite_is_refused(suite, message):
    with pytest.raises(UsageError, match=message):
        load_suite(suite)


def test_a_suite_that_lacks_a_dependency_names_it(tmp_path):
    (tmp_path / "mine.py").write_text("import absent_dependency\n")
    with pytest.raises(UsageError, match="it imports 'absent_dependency', which is not installed"):
        load_suite(str(tmp_path / "mine.py"))


def test_models_are_selected_in_the_suites_own_order():
    models = load_suite(str(SUITES / "tiny.py"))
    assert list(select_models(models, ("last", "first"))) == ["first", "last"]
    with pytest.raises(UnknownName, match="unknown model 'frist'; did you mean 'first'"):
        select_models(models, ("frist",))


@pytest.mark.parametrize(
    ("suite", "first"), [("kernels", "gated"), ("kernels-drawn", "pointwise_0"), ("recurrent", "tagger")]
)
def test_the_cases_of_single_kernels_are_modules_with_inputs(suite: str, first: str):
    models = load_suite(suite)
    assert next(iter(models)) == first
    for name in list(models)[:: max(1, len(models) // 7)]:
        model, inputs = models[name]()
        assert torch.isfinite(model(*inputs)).all(), name


def test_fifty_models_of_the_zoos_kinds_are_drawn():
    """The first of each kind computes; the same seed draws the same model."""
    models = load_suite("zoo-drawn")
    assert len(models) == 50
    for name in [n for n in models if n.endswith("_0")]:
        model, inputs = models[name]()
        found = model(*inputs)
        again, same = models[name]()
        assert all(torch.isfinite(t).all() for t in (found if isinstance(found, tuple) else (found,))), name
        assert all(torch.equal(a, b) for a, b in zip(inputs, same, strict=True)), name
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)), name


def test_a_name_may_be_a_pattern_that_fits_some_model():
    models = load_suite("kernels")
    assert set(select_models(models, ("rotary", "depthwise_*"))) == {
        "rotary",
        "depthwise_3",
        "depthwise_3_strided",
        "depthwise_7",
    }
    with pytest.raises(UnknownName, match="soft"):
        select_models(models, ("soft-*",))
