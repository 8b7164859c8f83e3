"""The public door of tpopt: a PyTorch model in, a faster and verified callable out.

::

    import tpopt

    fast = tpopt.compile(model, inputs)
    fast(*inputs)
    print(fast.report)

What needs torch is imported on first use, so that ``import tpopt`` and ``tpopt --help`` are immediate. Whatever is not
listed in ``__all__`` is private.
"""

from __future__ import annotations

import importlib
from typing import Final

from tpopt import errors
from tpopt.options import Options

__version__ = "0.1.0"

__all__ = ["Options", "__version__", "errors"]

_HOMES: Final[dict[str, str]] = {}
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
