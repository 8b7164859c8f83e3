"""One call of an operator: traced, run as algebra, and compared with torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.errors import TpoptError
from tpopt.frontend.coverage.calls import Call, Called, tensors_of
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Cond, Kernel, Opaque, Scan, Stage, Tensor
from tpopt.ir.aten import resolve
from tpopt.ir.to_torch import to_torch

_TIED = ("sort", "argsort", "topk", "kthvalue", "median", "mode")
"""Operators that may name any of several equal elements."""
_ORDERING = ("sort", "argsort", "topk")
"""Those among them that name each element once."""
_UNSPECIFIED = ("aten.empty", "aten.new_empty")
_TOLERANCES = {
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
    torch.float32: 2e-5,
    torch.complex64: 2e-5,
    torch.float64: 1e-9,
    torch.complex128: 1e-9,
}


def traced_call(name: str, call: Call) -> Traced:
    """A call as algebra. Raises :class:`TpoptError` where it cannot be traced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trace(Called(resolve(name), call), tensors_of(call))


def opaque_calls(stages: Iterable[Stage]) -> Iterator[Opaque]:
    """Operators kept whole, wherever they stand."""
    pending = list(stages)[::-1]
    while pending:
        match pending.pop():
            case Opaque() as stage:
                yield stage
            case Kernel() as stage:
                pending += stage.defines[::-1]
            case Scan() as stage:
                pending += stage.body.stages[::-1]
            case Cond() as stage:
                pending += (*stage.otherwise.stages[::-1], *stage.then.stages[::-1])


def failure(name: str, call: Call, traced: Traced) -> str:
    """How the algebra differs from torch on a call, in its results and in what it overwrites; empty where it agrees."""
    tensors = tensors_of(call)
    overwritten = [t.clone() for t in tensors]  # by an operator that writes into its arguments
    with torch.no_grad():
        expected = pytree.tree_leaves(Called(resolve(name), call)(*overwritten))
    named = {n: v for n, v in zip(traced.inputs, tensors, strict=True) if n is not None}
    try:
        results = to_torch(traced.algebra, check=True)(*(named[t.name] for t in traced.algebra.inputs))
    except (TpoptError, RuntimeError, IndexError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    following = iter(results)
    actual = [next(following) if isinstance(o, Tensor) else o for o in traced.outputs]
    for alias in traced.algebra.aliases:
        actual.append(results[alias.output])
        expected.append(overwritten[traced.inputs.index(alias.target)])
    if _may_differ(name, call, expected):
        positions, wanted = actual[-1], expected[-1]
        if name.split(".")[1] in _ORDERING and _repeats(name, call, positions):
            return "it names an element twice"
        actual[-1], expected[-1] = (_named_values(name, call, where) for where in (positions, wanted))
    return next(_differences(name, actual, expected), "")


def _given(name: str, call: Call) -> dict[str, Any]:
    """Arguments of a call by name."""
    args, kwargs = call
    return {**dict(zip((a.name for a in resolve(name)._schema.arguments), args, strict=False)), **kwargs}


def _may_differ(name: str, call: Call, expected: list[Any]) -> bool:
    """Whether the last result are positions along an axis, of which ties leave some open."""
    arguments = [a.name for a in resolve(name)._schema.arguments]
    tied = name.split(".")[1] in _TIED and "dim" in arguments and not _given(name, call).get("stable")
    return tied and expected[-1].dtype is torch.int64


def _axis(name: str, call: Call) -> int:
    return int(_given(name, call).get("dim", -1))


def _repeats(name: str, call: Call, positions: torch.Tensor) -> bool:
    if not positions.dim():
        return False
    ordered = positions.sort(_axis(name, call)).values
    return bool((ordered.diff(dim=_axis(name, call)) == 0).any())


def _named_values(name: str, call: Call, where: torch.Tensor) -> torch.Tensor:
    """The values at the positions that an operator names, whichever of several equal ones it chose."""
    source: torch.Tensor = call[0][0]
    axis = _axis(name, call)
    if source.dim() and where.dim() == source.dim():
        return torch.gather(source, axis, where)
    return torch.gather(source, axis, where.unsqueeze(axis)) if source.dim() else source


def _differences(name: str, actual: list[Any], expected: list[Any]) -> Iterator[str]:
    if len(actual) != len(expected):
        yield f"{len(actual)} results for {len(expected)}"
        return
    for got, want in zip(actual, expected, strict=True):
        if not isinstance(want, torch.Tensor):
            continue
        if not isinstance(got, torch.Tensor):
            yield f"{got} for a tensor"
        elif got.shape != want.shape or got.dtype != want.dtype:
            yield f"{got.dtype}{tuple(got.shape)} for {want.dtype}{tuple(want.shape)}"
        elif not name.startswith(_UNSPECIFIED):
            close = _TOLERANCES.get(want.dtype, 0.0)  # integers and truth values agree to the last bit
            plain = want.resolve_conj().resolve_neg()
            if not torch.allclose(got, plain, rtol=close, atol=close, equal_nan=True):
                yield f"{(got != plain).sum().item()} of {want.numel()} elements differ"
