"""One check of a lowering: trace a function, run its algebra, compare with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Index, Opaque, Tensor
from tpopt.ir.text import print_stage
from tpopt.ir.to_torch import to_torch

_TOLERANCES = {
    torch.float64: (1e-10, 1e-10),
    torch.float32: (2e-5, 2e-5),
    torch.float16: (2e-3, 2e-3),
    torch.bfloat16: (1.6e-2, 1.6e-2),
    torch.complex64: (2e-5, 2e-5),
    torch.complex128: (1e-10, 1e-10),
}


class _Wrapped(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def opaque_targets(traced: Traced) -> list[str]:
    """``target: reason`` of every stage that stayed whole."""
    return [
        f"{s.target}: {traced.reasons.get(s.outs[0].name if s.outs else '', '')}"
        for s in traced.algebra.stages
        if isinstance(s, Opaque)
    ]


def texts(traced: Traced) -> list[str]:
    """What each stage of the algebra computes, without the names of its results."""
    return [print_stage(s).partition(" = ")[2] for s in traced.algebra.stages]


def run(traced: Traced, args: Sequence[Any]) -> list[Any]:
    """Values of the traced function's flattened results, computed by its algebra; lookups are checked."""
    flat = pytree.tree_leaves(tuple(args))
    named = {n: v for n, v in zip(traced.inputs, flat, strict=True) if n is not None}
    function = to_torch(traced.algebra, check=True)
    results = iter(function(*(named[t.name] for t in traced.algebra.inputs)))
    return [next(results) if isinstance(o, Tensor) else o for o in traced.outputs]


def check_lowering(
    fn: Callable[..., Any],
    *args: Any,
    dynamic: Any = None,
    also: Sequence[tuple[Any, ...]] = (),
    opaque: Sequence[str] = (),
    rtol: float | None = None,
    atol: float | None = None,
) -> Traced:
    """Traces ``fn(*args)``, requires that exactly the ``opaque`` targets stay whole, and compares results with torch.

    ``dynamic``: ``True`` makes every extent above 1 symbolic; a tuple with one ``{axis: Dim}`` or ``None`` for each
    argument says which. ``also`` holds other arguments (other extents) for the same program.
    """
    traced = trace(_Wrapped(fn), args, dynamic_shapes=_dynamic_shapes(args, dynamic))
    found = opaque_targets(traced)
    assert sorted({f.split(":")[0] for f in found}) == sorted(opaque), found
    for values in (args, *also):
        expected, _ = pytree.tree_flatten_with_path(fn(*values))
        actual = run(traced, values)
        assert len(actual) == len(expected)
        wrong = [w for a, (path, e) in zip(actual, expected, strict=True) if (w := _differs(a, path, e, rtol, atol))]
        assert not wrong, "\n\n".join(wrong)
    return traced


def check_table(functions: Mapping[str, Callable[..., Any]], *args: Any, **options: Any) -> Traced:
    """:func:`check_lowering` of every function of a table on the same arguments, as one program."""
    return check_lowering(lambda *values: {name: f(*values) for name, f in functions.items()}, *args, **options)


def _differs(actual: Any, path: Any, expected: Any, rtol: float | None, atol: float | None) -> str:
    try:
        compare(actual, expected, rtol, atol)
    except AssertionError as error:
        return f"result {pytree.keystr(path)}: {error}"
    return ""


def compare(actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None) -> None:
    """Same shape, dtype and, within the type's tolerance, values; NaN equals NaN."""
    if not isinstance(expected, torch.Tensor):
        assert isinstance(actual, Index) or actual == expected
        return
    own_r, own_a = _TOLERANCES.get(expected.dtype, (0.0, 0.0))
    torch.testing.assert_close(
        actual,
        expected.resolve_conj().resolve_neg(),
        rtol=own_r if rtol is None else rtol,
        atol=own_a if atol is None else atol,
        equal_nan=True,
        check_stride=False,
    )


def _dynamic_shapes(args: tuple[Any, ...], dynamic: Any) -> Any:
    if dynamic is None or dynamic is False:
        return None
    if dynamic is True:
        auto = torch.export.Dim.AUTO

        def one(value: Any) -> Any:
            return {k: auto for k, n in enumerate(value.shape) if n > 1} if isinstance(value, torch.Tensor) else None

        return (tuple(pytree.tree_map(one, a) for a in args),)
    return (tuple(dynamic),)
