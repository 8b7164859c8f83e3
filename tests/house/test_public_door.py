"""What ``import tpopt`` offers, and what it does not load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tpopt

COMMAND = str(Path(sys.executable).with_name("tpopt"))
LOADED = "; import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def loaded_by(statement: str) -> set[str]:
    command = [sys.executable, "-c", statement + LOADED]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_the_public_names_are_these():
    assert tpopt.__all__ == [
        "Budget", "CompiledModel", "CompiledStep", "Options", "Report", "__version__",
        "compile", "compile_step", "errors", "load", "profile",
    ]  # fmt: skip


def test_the_public_names_are_sorted_and_exist():
    assert tpopt.__all__ == sorted(tpopt.__all__)
    assert [name for name in tpopt.__all__ if not hasattr(tpopt, name)] == []


def test_an_unknown_public_name_is_an_attribute_error_that_lists_the_names():
    with pytest.raises(
        AttributeError, match="module 'tpopt' has no attribute 'optimise'; its public names are Budget, Comp"
    ):
        tpopt.optimise  # noqa: B018  the access is the test


@pytest.mark.parametrize("statement", ["import tpopt", "import tpopt.errors", "import tpopt.cli"])
def test_it_loads_neither_torch_nor_tvm(statement: str):
    assert loaded_by(statement) & {"torch", "tvm", "tvm_ffi", "numpy", "sympy", "ortools"} == set()


def test_compile_does_not_load_tvm_before_it_is_called():
    assert "tvm" not in loaded_by("from tpopt import compile")


@pytest.mark.serial
def test_help_is_immediate():
    started = time.perf_counter()
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 2.0
    assert "Usage: tpopt" in done.stdout


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "tpopt", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout
