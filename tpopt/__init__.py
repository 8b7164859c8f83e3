"""The public door of tpopt: a PyTorch model in, a faster and verified callable out.

::

    import tpopt

    fast = tpopt.compile(model, inputs)
    fast(*inputs)
    print(fast.report)

    fast.save("model.tpg")  # and, in another process:
    fast = tpopt.load("model.tpg")

What needs torch is imported on first use, so that ``import tpopt`` and ``tpopt --help`` are immediate. Whatever is not
listed in ``__all__`` is private.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Final

from tpopt import errors
from tpopt.budget import Budget
from tpopt.options import Options

if TYPE_CHECKING:
    from tpopt._compile import compile  # noqa: A004 - the public name
    from tpopt._compile.profile import profile
    from tpopt._saved.load import load
    from tpopt.report import Report
    from tpopt.runtime.compiled import CompiledModel
    from tpopt.training.step import CompiledStep, compile_step

if os.environ.get("TPOPT_LOGS"):
    from tpopt.log import configure

    configure(os.environ["TPOPT_LOGS"])

__version__ = "0.1.0"

__all__ = [
    "Budget", "CompiledModel", "CompiledStep", "Options", "Report", "__version__", "compile", "compile_step", "errors",
    "load", "profile",
]  # fmt: skip

_HOMES: Final[dict[str, str]] = {
    "CompiledModel": "tpopt.runtime.compiled",
    "Report": "tpopt.report",
    "CompiledStep": "tpopt.training.step",
    "compile": "tpopt._compile",
    "compile_step": "tpopt.training.step",
    "load": "tpopt._saved.load",
    "profile": "tpopt._compile.profile",
}
"""Each public name that is imported on first use, and the module that defines it."""


def __getattr__(name: str) -> object:
    """Imports a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tpopt' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return list(__all__)
