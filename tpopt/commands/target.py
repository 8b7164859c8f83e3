"""What a user names to a model and its inputs: ``module.py:function``, a saved, an ONNX or an exported model.

The first runs the user's code, and so may the last: it takes ``trust``. The others are data.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tpopt.errors import CorruptFile, UnknownName, UsageError

DATA = (".tpg", ".onnx")
"""How the names of files end that hold no code."""
EXPORTED = ".pt2"
_RETURNS = "return (model, inputs), or (model, inputs, kwargs), or a model with an attribute example_inputs"


@dataclass(frozen=True)
class Target:
    """What the user's function returned."""

    model: Any
    inputs: Any
    kwargs: dict[str, Any] | None


def load_target(spec: str, *, trust: bool = False) -> Target:
    """Loads the file or module, calls the function, and returns model and inputs.

    Args:
        spec: ``file.py:function``, ``package.module:function``, or a file that ends in .tpg, .onnx or .pt2.
        trust: open .pt2, which may run code that is in it.

    Raises:
        UsageError: the text, the file, the function or what it returns is not as expected, or the user's code raises.
        CorruptFile: the file is damaged, or would have to be trusted.
    """
    if runs_no_code(spec) or spec.endswith(EXPORTED):
        return _from_file(Path(spec), trust=trust)
    place, name = _split(spec)
    module = _by_path(Path(place)) if place.endswith(".py") else _by_name(place)
    made = _attribute(module, place, name)
    if not _is_model(made):
        made = _call(made, f"{place}:{name}")
    return _as_target(made, f"{place}:{name}")


def runs_no_code(spec: str) -> bool:
    """Whether what a user names is data alone."""
    return spec.endswith(DATA)


def _from_file(path: Path, *, trust: bool) -> Target:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if path.suffix == ".tpg":
        from tpopt._saved.targets import saved_target

        return Target(*saved_target(path))
    if path.suffix == ".onnx":
        from tpopt.frontend.onnx import onnx_model

        return Target(*onnx_model(path), None)
    if not trust:
        raise CorruptFile(
            f"{path} is not opened: torch.export.load unpickles, which runs whatever code is in the file. "
            "Pass --trust if you made it yourself, or save the model with tpopt where it was exported"
        )
    loaded: Target = _guarded(lambda: _exported(path), f"loading {path}")
    return loaded


def _exported(path: Path) -> Target:
    import torch

    program = torch.export.load(path)
    if program.example_inputs is None:
        raise UsageError(f"{path} has no example inputs; export it again with torch.export.save")
    args, kwargs = program.example_inputs
    return Target(program.module(), tuple(args), dict(kwargs))


def _split(spec: str) -> tuple[str, str]:
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise UsageError(f"{spec!r} names no function: expected path/to/file.py:function or package.module:function")
    return place, name


def _by_path(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    name = f"tpopt_user_{path.stem}"  # a name that can shadow no installed module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # the file may import its neighbours, as under `python file.py`
    sys.modules[name] = module
    execute = spec.loader.exec_module
    _guarded(lambda: execute(module), f"importing {path}")
    return module


def _by_name(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))  # as under `python -m`
    module: ModuleType = _guarded(lambda: importlib.import_module(name), f"importing {name}")
    return module


def _attribute(module: ModuleType, place: str, name: str) -> Any:
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        own = [n for n in known if getattr(vars(module)[n], "__module__", None) == module.__name__]
        raise UnknownName(f"function of {place}", name, own or known)
    return getattr(module, name)


def _call(function: Any, spec: str) -> Any:
    if not callable(function):
        raise UsageError(f"{spec} is {_a(function)}, expected a function; it must {_RETURNS}")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise UsageError(f"{spec} is called without arguments, but {error}; give them defaults") from error
    except ValueError:
        pass  # a builtin may have no signature
    return _guarded(function, f"calling {spec}")


def _guarded(step: Callable[[], Any], doing: str) -> Any:
    try:
        return step()
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and it is theirs to mend
        raise UsageError(
            f"{doing} raised {type(error).__name__}: {error}; `tpopt --traceback ...` shows where"
        ) from error


def _as_target(made: Any, spec: str) -> Target:
    if _is_model(made):
        inputs = getattr(made, "example_inputs", None)
        if inputs is None:
            raise UsageError(f"{spec} gives a {type(made).__name__} without example_inputs; {_RETURNS}")
        inputs = _guarded(inputs, f"calling example_inputs of {spec}") if _is_method(inputs) else inputs
        return Target(made, inputs, None)
    parts = tuple(made) if isinstance(made, (tuple, list)) else ()
    if len(parts) not in (2, 3) or not _is_model(parts[0]):
        raise UsageError(f"{spec} gave {_a(made)}; it must {_RETURNS}")
    kwargs = parts[2] if len(parts) == 3 else None
    if kwargs is not None and not isinstance(kwargs, dict):
        raise UsageError(f"{spec} gave {_a(kwargs)} as kwargs, expected a dict of keyword inputs")
    return Target(parts[0], parts[1], kwargs)


def _is_model(value: Any) -> bool:
    import torch

    return isinstance(value, torch.nn.Module)


def _is_method(value: Any) -> bool:
    return inspect.ismethod(value) or inspect.isfunction(value)


def _a(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of ({', '.join(type(part).__name__ for part in value)})"
    return f"a value of type {type(value).__name__}"
