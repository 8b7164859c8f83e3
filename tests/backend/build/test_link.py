from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from tpopt.backend.build import link
from tpopt.backend.build.link import c_compiler, has_linker, link_shared
from tpopt.errors import KernelBuildFailed

compiler = pytest.mark.skipif(not has_linker(), reason="no C compiler on this machine")


def compiled(folder: Path, source: str) -> Path:
    (folder / "k.c").write_text(source)
    command = [*(c_compiler() or ()), "-c", "-fPIC", "-O1", "-o", str(folder / "k.o"), str(folder / "k.c")]
    subprocess.run(command, check=True)
    return folder / "k.o"


@compiler
def test_a_linked_object_runs_and_finds_the_mathematics_and_the_helpers_of_the_compiler(tmp_path: Path):
    source = "double exp(double); double f(double x, __int128 n) { return exp(x) + (double)(n / 3); }"
    link_shared(compiled(tmp_path, source), tmp_path / "k.so")
    function = ctypes.CDLL(str(tmp_path / "k.so")).f
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double, ctypes.c_longlong, ctypes.c_longlong]
    assert function(0.0, 9, 0) == 4.0


@compiler
def test_a_missing_function_is_an_error_at_loading_not_at_the_call(tmp_path: Path):
    link_shared(compiled(tmp_path, "void nowhere(void); void f(void) { nowhere(); }"), tmp_path / "k.so")
    with pytest.raises(OSError, match="undefined symbol: nowhere"):
        ctypes.CDLL(str(tmp_path / "k.so"))


@compiler
def test_what_the_linker_said_is_in_the_error(tmp_path: Path):
    (tmp_path / "k.o").write_bytes(b"no object")
    with pytest.raises(KernelBuildFailed, match=r"k\.o was not linked by (?s:.*) file format not recognized"):
        link_shared(tmp_path / "k.o", tmp_path / "k.so")


def test_without_a_compiler_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link, "c_compiler", lambda: None)
    assert not has_linker()
    with pytest.raises(KernelBuildFailed, match=r"no C compiler .* is on PATH: install gcc or clang"):
        link_shared(tmp_path / "k.o", tmp_path / "k.so")


def test_the_compiler_that_cc_names_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own = tmp_path / "mycc"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("CC", f"{own} -m64")
    assert c_compiler.__wrapped__() == (str(own), "-m64")
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "")
    assert c_compiler.__wrapped__() is None
