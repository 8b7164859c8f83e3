"""How names of tensors, iterators and symbols are written in program text."""

from __future__ import annotations

import json
import re

from tpopt.ir.dtypes import DType
from tpopt.ir.functions import MONOIDS

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
RESERVED = frozenset(("inf", "nan", "infj", "nanj", "true", "false", "none", *MONOIDS, *(d.value for d in DType)))


def quoted(name: str) -> str:
    """The name as it stands, or between backticks where program text would read it as something else."""
    if PLAIN.fullmatch(name) and name not in RESERVED:
        return name
    return "`" + json.dumps(name)[1:-1].replace("`", "\\u0060") + "`"


def unquoted(text: str) -> str:
    """The name that :func:`quoted` wrote."""
    if not text.startswith("`"):
        return text
    name: str = json.loads(f'"{text[1:-1]}"')
    return name
