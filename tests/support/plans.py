"""Plans of the original operators, bound and ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from support.kernels import Wrapped
from tpopt.backend.binding import Binder
from tpopt.backend.operators import inference
from tpopt.backend.plan import Plan
from tpopt.choose.candidate import Candidates, Price
from tpopt.choose.choose import only_originals
from tpopt.choose.originals import original_candidates
from tpopt.frontend.trace import Traced, trace
from tpopt.runtime.executable import Executable
from tpopt.runtime.outprobe import OutProbe


@dataclass
class Bound:
    """A function of tensors, traced, and its plan bound to sizes."""

    model: Wrapped
    traced: Traced
    plan: Plan
    executable: Executable

    def __call__(self, *args: torch.Tensor) -> list[torch.Tensor]:
        with inference():
            return self.executable(list(args))

    def expected(self, *args: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            return [t for t in pytree.tree_leaves(self.model(*args)) if isinstance(t, torch.Tensor)]


def bound(
    function: Callable[..., Any],
    *args: torch.Tensor,
    parts: tuple[torch.nn.Module, ...] = (),
    sizes: Mapping[str, int] | None = None,
    dynamic: Any = None,
) -> Bound:
    """The original operators of ``function(*parts, *args)`` as an executable."""
    model = Wrapped(function, *parts).eval()
    traced = trace(model, args, dynamic_shapes=dynamic)
    found = Candidates()
    original_candidates(traced.original, found)
    choice = only_originals(traced.original, found, {c.key: Price(1.0) for c in found.admitted})
    assert choice is not None
    executable = Executable(choice.plan, Binder(traced.weights), sizes or {}, OutProbe())
    return Bound(model, traced, choice.plan, executable)
