from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.cli import Compiler, Run

SOURCE = """
import torch

class Own(torch.nn.Module):
    def forward(self, x, scale=1):
        return x

class WithInputs(Own):
    example_inputs = (torch.ones(2),)

class WithMethod(Own):
    def example_inputs(self):
        return (torch.ones(3),)

def pair(): return Own(), torch.ones(1)
def keywords(): return Own(), (torch.ones(1),), {"scale": 2}
def alone(): return WithInputs()
def bare(): return Own()
def nothing(): return None
def number(): return Own(), torch.ones(1), 3
def needs(size): return pair()
def fails(): raise RuntimeError("no weights")
def leaves(): raise SystemExit(9)
ready = WithInputs()
constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own_models.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("name", "inputs", "kwargs"),
    [
        ("pair", torch.ones(1), None),
        ("keywords", (torch.ones(1),), {"scale": 2}),
        ("alone", (torch.ones(2),), None),
        ("WithInputs", (torch.ones(2),), None),
        ("WithMethod", (torch.ones(3),), None),
        ("ready", (torch.ones(2),), None),
    ],
)
def test_what_may_be_returned(name: str, inputs: object, kwargs: object, file: Path, run: Run, compiler: Compiler):
    assert run("optimize", f"{file}:{name}").code == 0
    ((model, given, keywords, _),) = compiler.calls
    assert isinstance(model, torch.nn.Module)
    assert (repr(given), keywords) == (repr(inputs), kwargs)


RETURN = "return (model, inputs), or (model, inputs, kwargs), or a model with an attribute example_inputs"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "paer",
            "unknown function of {file} 'paer'; did you mean 'pair'? Valid names: Own, WithInputs, WithMethod, alone,",
        ),
        ("bare", "{file}:bare gives a Own without example_inputs; " + RETURN),
        ("nothing", "{file}:nothing gave a value of type NoneType; it must " + RETURN),
        ("number", "{file}:number gave a value of type int as kwargs, expected a dict of keyword inputs"),
        (
            "needs",
            "{file}:needs is called without arguments, but missing a required argument: 'size'; give them defaults",
        ),
        ("fails", "calling {file}:fails raised RuntimeError: no weights; `tpopt --traceback ...` shows where"),
        ("leaves", "calling {file}:leaves raised SystemExit: 9; `tpopt --traceback ...` shows where"),
        ("constant", "{file}:constant is a value of type int, expected a function; it must " + RETURN),
    ],
)
def test_what_is_wrong_is_said(name: str, message: str, file: Path, run: Run, compiler: Compiler):
    ended = run("optimize", f"{file}:{name}")
    assert (ended.code, compiler.calls) == (2, [])
    assert f"error: {message.format(file=file)}" in ended.err


@pytest.mark.parametrize("spec", ["own_models.py", "own_models.py:", ":pair", "own_models.py:a b", "x.py:a.b"])
def test_a_target_without_a_function_is_refused(spec: str, run: Run):
    ended = run("optimize", spec)
    said = f"error: {spec!r} names no function: expected path/to/file.py:function or package.module:function\n"
    assert (ended.code, ended.err.endswith(said)) == (2, True)


def test_a_file_that_does_not_import_is_said(tmp_path: Path, run: Run):
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    ended = run("optimize", f"{tmp_path}/broken.py:build")
    assert ended.code == 2
    assert "broken.py raised ModuleNotFoundError: No module named 'no_such_library'" in ended.err


def test_a_file_may_import_its_neighbours(file: Path, run: Run, compiler: Compiler):
    (file.parent / "user.py").write_text("from own_models import pair\n")
    assert run("optimize", f"{file.parent}/user.py:pair").code == 0


def test_a_file_named_as_a_library_does_not_replace_it(tmp_path: Path, run: Run, compiler: Compiler):
    (tmp_path / "json.py").write_text(SOURCE)
    assert run("optimize", f"{tmp_path}/json.py:pair", "--json").code == 0


def test_a_module_is_found_from_the_current_folder(
    file: Path, run: Run, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(file.parent)
    assert run("optimize", "own_models:pair").code == 0


def test_a_module_that_is_not_there_is_said(run: Run):
    ended = run("optimize", "no.such.module:build")
    assert ended.code == 2
    assert "error: importing no.such.module raised ModuleNotFoundError: No module named 'no'" in ended.err


def test_it_says_that_it_runs_code(net: str, run: Run, compiler: Compiler):
    assert run("optimize", net).err == f"running {net}: this executes its code\n"
