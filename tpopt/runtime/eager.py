"""The original model behind the same door: no gradients, the same refusals."""

from __future__ import annotations

from typing import Any

import torch

from tpopt.runtime.arguments import tensors_of
from tpopt.runtime.guards import refuse_autograd


class EagerCallable:
    """Runs the user's model as it is, under ``no_grad``."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises :class:`GuardFailed` when an input wants a gradient, as a compiled plan does."""
        if not torch.is_grad_enabled():
            return self._model(*args, **kwargs)
        refuse_autograd(tensors_of(args, kwargs))
        with torch.no_grad():
            return self._model(*args, **kwargs)

    def on(self, buffers: dict[str, torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same on other buffers, whose new values replace them in ``buffers``; the model keeps its own."""
        if torch.is_grad_enabled():
            refuse_autograd(tensors_of(args, kwargs))
        with torch.no_grad():
            return torch.func.functional_call(self._model, buffers, args, kwargs)
