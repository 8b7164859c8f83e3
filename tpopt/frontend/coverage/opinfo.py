"""Calls of ATen operators that torch's own sample inputs (OpInfo) lead to.

torch ships them with its tests; they need packages that torch does not (expecttest), so there may be none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tpopt.errors import TpoptError
from tpopt.frontend.capture import capture
from tpopt.frontend.coverage.calls import Call, Called, tensors_of
from tpopt.frontend.coverage.others import OTHERS
from tpopt.ir.aten import target_name

_DTYPES = (torch.float32, torch.int64, torch.bool, torch.complex64)
_EACH = 5  # samples of one entry and type
_ELEMENTS = 20_000  # in the tensors of a sample; larger ones only take longer
_SKIPPED = ("linalg.", "masked.", "sparse.", "special.", "jiterator", "_segment", "torch.ops.aten._flash")
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError)
"""What torch raises on a sample that it does not take on this machine, which then shows nothing."""


def recorded_calls(wanted: Iterable[str], most: int = 2, namesakes: bool = False) -> Mapping[str, list[Call]]:
    """Up to ``most`` different calls for each wanted operator and element type; none without torch's sample inputs.

    An entry that bears an operator's name comes before the others, and with ``namesakes`` alone, which is quicker for
    a few. Operators that torch takes apart before they are dispatched are found in exported graphs of their namesakes,
    unless we have a sample of our own, which is quicker.
    """
    calls, entries = _Calls(wanted, most), sample_entries()
    named = [e for e in entries if calls.bases.intersection(_names(e))]
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        for entry in named if namesakes else [*named, *(e for e in entries if e not in named)]:
            for dtype in _DTYPES:
                _run(entry.op, _samples(entry, dtype), calls)
        lacking = {name.split(".")[1] for name in calls.wanted - calls.found.keys() - OTHERS.keys()}
        for entry in named:
            for function in _functions(entry, lacking):
                for dtype in (torch.float32, torch.complex64):
                    _export(function, _samples(entry, dtype), calls)
    return {name: [c for some in by_type.values() for c in some.values()] for name, by_type in calls.found.items()}


@cache
def sample_entries() -> Sequence[Any]:
    """torch's OpInfo entries that are of use here; none where a package that they need is missing."""
    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ImportError:
        return ()
    return tuple(e for e in op_db if not e.name.startswith(_SKIPPED))


class _Calls:
    """The first different calls of each wanted operator and element type."""

    def __init__(self, wanted: Iterable[str], most: int) -> None:
        self.wanted = set(wanted)
        self.bases = {name.split(".")[1] for name in self.wanted}
        self.found: dict[str, dict[torch.dtype | None, dict[str, Call]]] = {}
        self._most = most

    def take(self, operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keeps a copy of the arguments when they are wanted."""
        if not isinstance(operator, torch._ops.OpOverload) or operator.namespace != "aten":
            return
        name, call = target_name(operator), (args, dict(kwargs))
        tensors = tensors_of(call)
        if name not in self.wanted or sum(v.numel() for v in tensors) > _ELEMENTS:
            return
        kept = self.found.setdefault(name, {}).setdefault(tensors[0].dtype if tensors else None, {})
        if len(kept) < self._most:
            kept.setdefault(_form(call), pytree.tree_map_only(torch.Tensor, _copy, call))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows the calls that torch dispatches."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._calls.take(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class _Replay(fx.Interpreter):
    """Shows the calls of an exported graph."""

    def __init__(self, module: fx.GraphModule, calls: _Calls) -> None:
        super().__init__(module)
        self._calls = calls

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._calls.take(target, args, kwargs)
        return super().call_function(target, args, kwargs)


def _form(call: Call) -> str:
    """What tells two calls of one operator and type apart, but for their values."""
    return str(pytree.tree_map_only(torch.Tensor, lambda v: (v.dtype, tuple(v.shape), v.stride()), call))


def _copy(value: torch.Tensor) -> torch.Tensor:
    """The same values over the same strides, safe from being overwritten."""
    plain = value.detach()
    if plain.is_contiguous() or plain.is_conj() or plain.is_neg():
        return plain.resolve_conj().resolve_neg().clone()
    if not torch.ops.aten.is_non_overlapping_and_dense.default(plain):
        return plain.clone()
    return torch.empty_strided(plain.size(), plain.stride(), dtype=plain.dtype).copy_(plain)


def _names(entry: Any) -> list[str]:
    """What ATen may call an entry or its aliases."""
    return [entry.name.split(".")[-1], entry.aten_name, *(a.name.replace(".", "_") for a in entry.aliases)]


def _functions(entry: Any, names: Collection[str]) -> Iterator[Callable[..., Any]]:
    """An entry's function and those of its aliases, where they bear one of the names."""
    if {entry.name.split(".")[-1], entry.aten_name}.intersection(names):
        yield entry.op
    yield from (a.op for a in entry.aliases if a.op is not None and a.name.replace(".", "_") in names)


def _samples(entry: Any, dtype: torch.dtype) -> Iterator[Call]:
    if dtype not in entry.supported_dtypes("cpu"):
        return
    torch.manual_seed(0)
    try:
        for sample in islice(entry.sample_inputs("cpu", dtype, requires_grad=False), _EACH):
            yield (sample.input, *sample.args), dict(sample.kwargs)
    except _REFUSALS:
        return


def _run(function: Callable[..., Any], samples: Iterable[Call], calls: _Calls) -> None:
    for args, kwargs in samples:
        try:
            with _Recorder(calls):
                function(*args, **kwargs)
        except _REFUSALS:
            continue


def _export(function: Callable[..., Any], samples: Iterable[Call], calls: _Calls) -> None:
    for call in islice(samples, 2):
        try:
            exported = capture(Called(function, call), tensors_of(call), {}, None)
            _Replay(exported.module(), calls).run(*tensors_of(call))
        except (TpoptError, *_REFUSALS):
            continue
