"""torch.export with the settings tpopt needs: inference, functional, composite operators kept whole."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

from tpopt.errors import UnsupportedModel

_ONE_AT_A_TIME = threading.RLock()
_IN_PARTS = 'torch.compile(model, backend="tpopt") optimizes the parts before and after the decision'


def capture(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> ExportedProgram:
    """Exports and functionalises. The model is not changed, nor is torch's grad mode after the call.

    Raises :class:`UnsupportedModel` with the first line of export's reason; its full text is the cause.
    """
    with warnings.catch_warnings(), torch.no_grad(), _masks_as_given():
        warnings.simplefilter("ignore")
        try:
            if isinstance(dynamic_shapes, torch.export.ShapesCollection):
                dynamic_shapes = dynamic_shapes.dynamic_shapes(model, args, kwargs)  # type: ignore[no-untyped-call]
            args, kwargs = _distinct(model, args, kwargs)
            exported = torch.export.export(model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False)
            functional: ExportedProgram = exported.run_decompositions({})
        except Exception as error:
            reason = str(error).strip().splitlines() or [""]
            kind = type(error).__name__
            remedy = f"; {_IN_PARTS}" if "DataDependent" in kind else ""
            raise UnsupportedModel(
                f"torch.export refused {type(model).__name__}: {kind}: {reason[0]}{remedy}"
            ) from error
    return functional


@contextmanager
def _masks_as_given() -> Iterator[None]:
    """While it lasts, layers of ``nn.Transformer`` do not look at a mask's values to see whether it is causal.

    Nothing can be exported that depends on them, and what is found only chooses a kernel: the mask is applied anyway.
    """
    with _ONE_AT_A_TIME:  # else who comes second would keep the first one's for the original
        detect = transformer._detect_is_causal_mask  # noqa: SLF001 - torch has no switch for it
        transformer._detect_is_causal_mask = _as_told  # noqa: SLF001
        try:
            yield
        finally:
            transformer._detect_is_causal_mask = detect  # noqa: SLF001


def _as_told(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:  # noqa: ARG001 - torch's signature
    return is_causal is True


def _distinct(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs with another view for each that was met before: export takes one object for one input."""
    seen = {id(t) for t in (*model.parameters(), *model.buffers())}

    def once(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or id(value) not in seen:
            seen.add(id(value))
            return value
        return value.detach()

    distinct: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map(once, (args, kwargs))
    return distinct
