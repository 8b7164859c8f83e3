"""torch.export with the settings tpopt needs: inference, functional, composite operators kept whole."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from tpopt.errors import UnsupportedModel


def capture(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> ExportedProgram:
    """Exports and functionalises. The model is not changed, nor is torch's grad mode after the call.

    Raises :class:`UnsupportedModel` with the first line of export's reason; its full text is the cause.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            if isinstance(dynamic_shapes, torch.export.ShapesCollection):
                dynamic_shapes = dynamic_shapes.dynamic_shapes(model, args, kwargs)  # type: ignore[no-untyped-call]
            args, kwargs = _distinct(model, args, kwargs)
            exported = torch.export.export(model, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False)
            functional: ExportedProgram = exported.run_decompositions({})
        except Exception as error:
            reason = str(error).strip().splitlines() or [""]
            raise UnsupportedModel(
                f"torch.export refused {type(model).__name__}: {type(error).__name__}: {reason[0]}"
            ) from error
    return functional


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
