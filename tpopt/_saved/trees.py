"""The structure of inputs and results as JSON: tuples, lists and dicts of leaves, and nothing else."""

from __future__ import annotations

import json
from typing import Any, Final

from torch.utils import _pytree as pytree

from tpopt.errors import CorruptFile, UnsupportedModel

LEAF: Final = 0
DEEPEST: Final = 64
_KINDS: Final[dict[str, type]] = {"tuple": tuple, "list": list}


def print_tree(spec: Any, what: str) -> str:
    """A pytree as JSON. Raises :class:`UnsupportedModel` for containers of other types, naming the type."""
    return json.dumps(_printed(spec, what), separators=(",", ":"))


def _printed(spec: Any, what: str) -> Any:
    if spec.is_leaf():
        return LEAF
    children = [_printed(spec.child(n), what) for n in range(spec.num_children)]
    if spec.type is dict and all(isinstance(k, (str, int)) for k in spec.context):
        return {"dict": [[k, c] for k, c in zip(spec.context, children, strict=True)]}
    for name, kind in _KINDS.items():
        if spec.type is kind:
            return {name: children}
    name = getattr(spec.context, "__name__", spec.type.__name__)
    raise UnsupportedModel(
        f"the {what} hold a {name}, which a saved model cannot: it holds tuples, lists and dicts with "
        "keys of text; wrap the model in one that returns these"
    )


def parse_tree(text: str, where: str) -> Any:
    """The pytree that :func:`print_tree` wrote. Raises :class:`CorruptFile`."""
    try:
        _, spec = pytree.tree_flatten(_parsed(json.loads(text), where, 0))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{where} is no structure of inputs or results: {error}") from error
    return spec


def _parsed(value: Any, where: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise CorruptFile(f"{where} is nested more than {DEEPEST} deep")
    if value is LEAF or (type(value) is int and value == LEAF):
        return object()
    if isinstance(value, dict) and len(value) == 1:
        ((name, children),) = value.items()
        if name in _KINDS and isinstance(children, list):
            return _KINDS[name](_parsed(c, where, depth + 1) for c in children)
        if name == "dict" and isinstance(children, list) and all(_is_pair(c) for c in children):
            return {k: _parsed(c, where, depth + 1) for k, c in children}
    raise CorruptFile(f"{where} is no structure of inputs or results")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and type(value[0]) in (str, int)
