"""Which calls of torch's operators do more than compute their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def has_effects(op: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call writes to an argument, or draws random numbers: one whose dropout is off draws none."""
    if op._schema.is_mutable:
        return True
    if torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    arguments = op._schema.arguments
    given = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given.update(zip((a.name for a in arguments), args, strict=False))
    given.update(kwargs)
    off = any(given.get(n) is False for n in ("train", "training"))
    return not (off or any(n in given and given[n] == 0 for n in ("dropout", "dropout_p")))
