"""Where suites of models come from: the zoo of the checkout, or any module with a mapping named ``ZOO``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import tpopt
from tpopt.errors import UnknownName, UsageError

Factory = Callable[[], tuple[Any, tuple[Any, ...]]]
"""Builds a module and the positional inputs of one call."""

CHECKOUT_SUITES: Final[Mapping[str, str]] = {
    "zoo": "examples/zoo",
    "zoo-drawn": "examples/zoo_drawn",
    "kernels": "examples/kernels",
    "kernels-drawn": "examples/kernels_drawn",
    "derivations": "examples/derivations",
    "recurrent": "examples/recurrent",
    "structured": "examples/structured",
}
"""Suites that tpopt's source tree holds, and where; they are not part of the installed package."""


def load_suite(suite: str) -> Mapping[str, Factory]:
    """Returns the models of a suite by name.

    Args:
        suite: ``"zoo"`` or another of :data:`CHECKOUT_SUITES`, found in the checkout around the working directory or
            around the installed package; or the path of a package or of a Python file; or the dotted name of a module
            that can be imported.

    Raises:
        UsageError: the suite is not found, does not import, or has no mapping ``ZOO``.
    """
    if suite in CHECKOUT_SUITES:
        module = _import_path(_checkout_suite(suite))
    elif Path(suite).exists():
        module = _import_path(Path(suite).resolve())
    else:
        module = _import_name(suite)
    models = getattr(module, "ZOO", None)
    if not isinstance(models, Mapping) or not models:
        raise UsageError(
            f"suite={suite!r}: {module.__name__} has no ZOO, a mapping from names to functions that return "
            "(module, inputs)"
        )
    return models


def select_models(models: Mapping[str, Factory], names: tuple[str, ...] | None) -> dict[str, Factory]:
    """Returns the models of these names in the suite's own order, or all of them.

    A name may be a pattern, such as ``gpt2_*``.

    Raises:
        UnknownName: a name that the suite does not have, or a pattern that no name fits.
    """
    for name in names or ():
        if not any(fnmatchcase(known, name) for known in models):
            raise UnknownName("model", name, models)
    return {name: factory for name, factory in models.items() if is_selected(name, names)}


def is_selected(name: str, patterns: tuple[str, ...] | None) -> bool:
    """Whether a model is one of those asked for; None asks for all."""
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


def _checkout_suite(suite: str) -> Path:
    place = CHECKOUT_SUITES[suite]
    here = Path.cwd()
    roots = [here, *here.parents, Path(tpopt.__file__).resolve().parents[1]]
    for root in roots:
        if (root / place / "__init__.py").is_file() and (root / "tpopt").is_dir():
            return root / place
    raise UsageError(
        f"suite={suite!r}: {place} is in tpopt's source tree, not in the installed package, and neither "
        f"{here} nor a folder above it is that tree. Run this in a checkout, or name a suite of your own: "
        "--suite path/to/package"
    )


def _import_path(path: Path) -> ModuleType:
    """Imports a package folder or a file under its own name, so that its files can import each other."""
    parent = str(path.parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    module = _import_name(path.stem)
    origin = Path(module.__file__ or "").resolve()
    if origin not in (path, path / "__init__.py"):
        raise UsageError(f"suite={str(path)!r}: another module named {path.stem!r} is in the way, {origin}; rename one")
    return module


def _import_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise UsageError(f"suite={name!r}: it imports {error.name!r}, which is not installed") from error
        known = ", ".join(CHECKOUT_SUITES)
        raise UsageError(f"suite={name!r}: neither a suite ({known}), nor a path, nor a module") from error
