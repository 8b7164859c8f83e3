"""Where in the user's model an operator comes from."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from tpopt.ir.program import Origin

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n\s*(?P<code>[^\n]*)')
_LIBRARY = ("torch",)


def origin_of(node: Any) -> Origin:
    """The traced node's name, the innermost line outside torch, and the module path."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    return Origin((node.name,), _lines(node.meta.get("stack_trace") or ""), paths[-1] if paths else "")


def _lines(trace: str) -> tuple[str, ...]:
    frames = [m.groupdict() for m in _FRAME.finditer(trace)]
    own = [f for f in frames if not set(PurePath(f["file"]).parts) & set(_LIBRARY)]
    chosen = own[-1:] or frames[-1:]
    return tuple(f"{PurePath(f['file']).name}:{f['line']} {f['code'].strip()}" for f in chosen)
