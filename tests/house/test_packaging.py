"""The wheel holds all of the project and nothing else, and works away from the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from support.tree import MAPPED, ROOT, modules, packages

NATIVE = ("annealer", "launcher", "packer")
IMPORT_ALL = """
import importlib, json, sys, warnings
homes = {}
for name in json.loads(sys.argv[1]):
    homes[name] = importlib.import_module(name).__file__
print(json.dumps(homes))
"""


def listed_packages() -> list[str]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return pyproject["tool"]["setuptools"]["packages"]


def test_every_package_folder_is_listed_in_pyproject_and_the_list_is_sorted():
    assert listed_packages() == packages()


def test_every_package_folder_has_an_init():
    names = modules()
    assert [name for name in packages() if names.get(name, Path()).name != "__init__.py"] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds from a copy, so that nothing left over from another build can slip in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in MAPPED.values():
        shutil.copytree(folder, source / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    return next(out.glob("tpopt-*.whl"))


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel, and with our dependencies but not our editable install."""
    home = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    site = next(home.glob("lib/python3*/site-packages"))
    # A folder named in a .pth file is searched, but its own .pth files, such as an editable install's, are not run.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


def pip(*args: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_every_module_and_the_typing_marks_and_nothing_else(wheel: Path):
    folders = {package: package.replace(".", "/") for package in MAPPED}
    wanted = {f"{inside}/py.typed" for inside in folders.values()} | {
        "tpopt/_saved/operators.txt",
        "tpopt/cost_models/default.json",
        "tpopt/cost_models/default.safetensors",
        *(f"tpopt/backend/native/{name}.c" for name in ("annealer", "launcher", "packer")),
    }
    for package, home in MAPPED.items():
        wanted |= {f"{folders[package]}/{file.relative_to(home).as_posix()}" for file in home.rglob("*.py")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_every_module_of_the_wheel_imports_in_a_clean_environment(clean_python: Path, tmp_path: Path):
    names = [name for name in modules() if not name.endswith("__main__")]
    command = [str(clean_python), "-c", IMPORT_ALL, json.dumps(names)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    homes = json.loads(done.stdout)
    assert [name for name, home in homes.items() if not Path(home).is_relative_to(clean_python.parents[1])] == []


def test_the_installed_command_runs_in_a_clean_environment(clean_python: Path, tmp_path: Path):
    command = [str(clean_python.with_name("tpopt")), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "optimize" in done.stdout
