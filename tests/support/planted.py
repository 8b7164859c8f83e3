"""Library kernels that do something wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tpopt.backend import library
from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.ir import Kernel


def spoiled(call: Call, spoil: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    def run(*args: Any, **kwargs: Any) -> Any:
        return spoil(call.function(*args, **kwargs))

    return replace(call, function=run, out_function=None, into=None)


def plant(monkeypatch: pytest.MonkeyPatch, implementation: str, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """All kernels of an implementation hand what they compute through ``spoil``."""
    known = library.binders()

    def bind(stage: Kernel, binder: Binder, sizes: Mapping[str, int]) -> Call:
        return spoiled(known[implementation](stage, binder, sizes), spoil)

    monkeypatch.setattr(library, "binders", partial(lambda table: table, {**known, implementation: bind}))
