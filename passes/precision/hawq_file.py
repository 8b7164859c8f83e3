"""Problem files of the form that the integer programs of HAWQ-V3 were published in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tpopt.errors import UsageError
from tpopt.passes.precision.assignment import Problem, Resource

BITS: Final = (4, 8)
BOUNDS: Final = ("size", "bops", "latency")
_LATENCY: Final = {4: "latency_int4", 8: "latency_int8"}


def read_problem(path: Path, bound: str, fraction: float) -> Problem:
    """The problem in a file with ``bound`` at this fraction of the way from all layers in 4 bits to all in 8.

    The file is JSON: lists with one number for each layer, ``trace`` (mean Hessian trace), ``dw2_4bit`` and
    ``dw2_8bit`` (squared change of the weights), ``parameters``, ``bops`` (multiply-adds), ``latency_int4`` and
    ``latency_int8``; and ``equal_groups``, lists of layers that share a precision. The size of a layer is ``parameters
    * bits / 8``, its bit operations ``bops * (bits / 32)^2``. A list that the bound does not need may be missing.

    Raises:
        UsageError: the file cannot be read, or does not say what the bound needs; the message names the key.
    """
    if bound not in BOUNDS:
        raise UsageError(f"bound={bound!r}: expected {', '.join(BOUNDS)}")
    if not 0 <= fraction <= 1:
        raise UsageError(f"fraction={fraction}: expected a number from 0 to 1")
    data = _read(path)
    traces = _numbers(data, "trace", path, None)
    count = len(traces)
    squares = [_numbers(data, f"dw2_{bits}bit", path, count) for bits in BITS]
    losses = tuple(tuple(t * row[k] for row in squares) for k, t in enumerate(traces))
    costs = tuple(zip(*(_costs(data, bound, bits, path, count) for bits in BITS), strict=True))
    least, most = (sum(row[k] for row in costs) for k in range(len(BITS)))
    groups = data.get("equal_groups", [])
    if not isinstance(groups, list) or not all(
        isinstance(g, list) and all(isinstance(k, int) for k in g) for g in groups
    ):
        raise UsageError(f"{path}: equal_groups is no list of lists of layers")
    resource = Resource(bound, costs, least + fraction * (most - least))
    return Problem(losses, (resource,), tuple(map(tuple, groups)))


def read_traces(path: Path) -> list[float]:
    """The layers' mean Hessian traces in a file."""
    return _numbers(_read(path), "trace", path, None)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected a JSON object with lists by name")
    return data


def _costs(data: Mapping[str, Any], bound: str, bits: int, path: Path, count: int) -> Sequence[float]:
    if bound == "size":
        return [n * bits / 8 for n in _numbers(data, "parameters", path, count)]
    if bound == "bops":
        return [n * (bits / 32) ** 2 for n in _numbers(data, "bops", path, count)]
    return _numbers(data, _LATENCY[bits], path, count)


def _numbers(data: Mapping[str, Any], key: str, path: Path, count: int | None) -> list[float]:
    values = data.get(key)
    if not isinstance(values, list) or not values:
        raise UsageError(f"{path}: {key} is missing, or no list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise UsageError(f"{path}: {key} holds {value!r}, expected finite numbers of at least 0")
    if count is not None and len(values) != count:
        raise UsageError(f"{path}: {key} has {len(values)} numbers, trace has {count}")
    return [float(v) for v in values]
