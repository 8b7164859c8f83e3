"""Calls of ATen operators that torch's own sample inputs (OpInfo) lead to.

torch ships them with its tests; they need packages that torch does not (expecttest), so there may be none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tpopt.frontend.coverage.samples import Call
from tpopt.ir.aten import target_name

_DTYPES = (torch.float32, torch.int64, torch.bool, torch.complex64)
_EACH = 5  # samples of one entry and type
_ELEMENTS = 20_000  # in the tensors of a sample; larger ones only take longer
_SKIPPED = ("linalg.", "masked.", "sparse.", "special.", "jiterator", "_segment", "torch.ops.aten._flash")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the arguments of the first calls of each wanted operator and type."""

    def __init__(self, wanted: frozenset[str], most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[str, dict[torch.dtype | None, list[Call]]] = {}
        self.wanted = wanted
        self._most = most

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = target_name(func)
        if name in self.wanted and func.namespace == "aten":
            leaves = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
            kept = self.calls.setdefault(name, {}).setdefault(leaves[0].dtype if leaves else None, [])
            if len(kept) < self._most and sum(v.numel() for v in leaves) <= _ELEMENTS:
                kept.append(pytree.tree_map_only(torch.Tensor, _copy, (args, dict(kwargs or {}))))
        return func(*args, **(kwargs or {}))


def _copy(value: torch.Tensor) -> torch.Tensor:
    """The same values over the same strides, safe from being overwritten."""
    plain = value.detach()
    if plain.is_contiguous() or plain.is_conj() or plain.is_neg():
        return plain.resolve_conj().resolve_neg().clone()
    return (
        torch.empty_strided(plain.size(), plain.stride(), dtype=plain.dtype).copy_(plain)
        if _dense(plain)
        else plain.clone()
    )


def _dense(value: torch.Tensor) -> bool:
    return bool(torch.ops.aten.is_non_overlapping_and_dense.default(value))


def recorded_calls(wanted: Iterable[str], most: int = 2, namesakes: bool = False) -> Mapping[str, list[Call]]:
    """Up to ``most`` calls for each wanted operator and element type; none at all without torch's sample inputs.

    ``namesakes`` looks at the samples of entries that bear an operator's name alone, which is quicker for a few.
    """
    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ImportError:
        return {}
    recorder = _Recorder(frozenset(wanted), most)
    names = {name.split(".")[1] for name in recorder.wanted}
    entries = [e for e in op_db if not e.name.startswith(_SKIPPED)]
    if namesakes:
        entries = [e for e in entries if e.name.split(".")[-1] in names or e.aten_name in names]
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        for entry in entries:
            for dtype in _DTYPES:
                torch.manual_seed(0)
                _record(recorder, entry, dtype)
    return {name: [c for calls in by_type.values() for c in calls] for name, by_type in recorder.calls.items()}


def _record(recorder: _Recorder, entry: Any, dtype: torch.dtype) -> None:
    if dtype not in entry.supported_dtypes("cpu"):
        return
    for sample in islice(_samples(entry, dtype), _EACH):
        try:
            with recorder:
                entry.op(sample.input, *sample.args, **sample.kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            continue  # a sample that torch itself refuses on this machine shows nothing


def _samples(entry: Any, dtype: torch.dtype) -> Iterator[Any]:
    try:
        yield from entry.sample_inputs("cpu", dtype, requires_grad=False)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return
