"""The survey: every core operator (and every other that has a lowering), traced, run and measured."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.errors import InvalidProgram, TpoptError
from tpopt.frontend.coverage.effort import aten_steps, steps
from tpopt.frontend.coverage.opinfo import recorded_calls
from tpopt.frontend.coverage.samples import SAMPLES, Call
from tpopt.frontend.registry import lowerings
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Opaque, Tensor
from tpopt.ir.aten import resolve
from tpopt.ir.to_torch import to_torch

SIZES = (12, 48)
"""Sizes at which work is measured: what grows faster than ATen's shows at the second."""
MOST_WORK = 2.0
_NUMBERS = (int, float, torch.SymInt, torch.SymFloat)
_POSITIONS = ("aten.sort", "aten.topk", "aten.kthvalue", "aten.median", "aten.argsort", "aten.mode")
"""Operators that may name any of several equal elements."""
_UNSPECIFIED = ("aten.empty", "aten.new_empty")
_TOLERANCES = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float64: 1e-9, torch.complex128: 1e-9}


@dataclass(frozen=True)
class Row:
    """One operator: how many of its sample calls are algebra, how many of those agree with torch, and at what work.

    ``work`` is the algebra's work over ATen's at each of :data:`SIZES`; ``reason`` says why a sample stayed whole.
    """

    overload: str
    core: bool
    tried: int
    algebra: int
    passed: int
    work: tuple[float, ...]
    reason: str

    @property
    def status(self) -> str:
        """``algebra`` where some sample is, else ``opaque``."""
        return "algebra" if self.algebra else "opaque"

    @property
    def sound(self) -> bool:
        """Whether every sample that is algebra agrees with torch, at no more than :data:`MOST_WORK` times its work."""
        return self.passed == self.algebra and all(w <= MOST_WORK for w in self.work)


@dataclass(frozen=True)
class Coverage:
    """The table that ``tpopt coverage`` prints."""

    rows: tuple[Row, ...]
    checked: bool

    @property
    def core(self) -> tuple[Row, ...]:
        """Core ATen overloads."""
        return tuple(r for r in self.rows if r.core)

    def summary(self) -> dict[str, Any]:
        """The counts: core overloads, those that are algebra, and the unsound among all."""
        counts = Counter(r.status for r in self.core)
        return {
            "torch": torch.__version__,
            "checked": self.checked,
            "core": len(self.core),
            "core_algebra": counts["algebra"],
            "core_opaque": counts["opaque"],
            "other_lowered": len(self.rows) - len(self.core),
            "unsound": [r.overload for r in self.rows if not r.sound],
        }

    def to_dict(self) -> dict[str, Any]:
        """The summary and the rows, ready for JSON."""
        return {**self.summary(), "rows": [{**asdict(r), "status": r.status, "work": list(r.work)} for r in self.rows]}

    def __str__(self) -> str:
        header = ("status", "algebra", "passed", "work", "operator", "")
        cells = [header, *(self._cells(r) for r in self.rows if r.core or r.tried)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        found = self.summary()
        untried = sum(not r.tried for r in self.rows if not r.core)
        return "\n".join(
            [
                *lines,
                (
                    f"{found['core_algebra']} of {found['core']} core ATen overloads are algebra "
                    f"(torch {found['torch']}); "
                    f"{found['other_lowered']} others have a lowering, {untried} of them without samples"
                ),
            ]
        )

    def _cells(self, row: Row) -> tuple[str, ...]:
        work = " ".join(f"{w:.2f}" for w in row.work)
        passed = f"{row.passed}/{row.algebra}" if self.checked else "-"
        return row.status, f"{row.algebra}/{row.tried}", passed, work, row.overload, row.reason


def core_overloads() -> tuple[str, ...]:
    """Core ATen overloads of this torch, sorted."""
    registered = torch._C._dispatch_get_all_op_names()  # noqa: SLF001 - dir() lists only what has been used already
    schemas = sorted(n for n in registered if n.startswith("aten::"))
    names = (n.replace("::", ".", 1) for n in schemas)
    targets = (n if n.count(".") == 2 else f"{n}.default" for n in names)
    return tuple(t for t in targets if _is_core(t))


def _is_core(target: str) -> bool:
    try:
        return torch.Tag.core in resolve(target).tags
    except InvalidProgram:  # a schema that torch keeps without an operator
        return False


def coverage(
    check: bool = True, only: Sequence[str] | None = None, progress: Callable[[int, int, str], None] | None = None
) -> Coverage:
    """Tries the sample calls of each operator: torch's OpInfo where it ships them, and one of our own.

    Args:
        check: also run the algebra and compare it with torch.
        only: operators to survey; all core ones and all that have a lowering by default.
        progress: called with the number done, the number of all and the operator's name.
    """
    core = core_overloads()
    names = tuple(only) if only is not None else (*core, *(t for t in sorted(lowerings()) if t not in core))
    calls = recorded_calls(names, namesakes=only is not None)
    rows: list[Row] = []
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names), name)
        rows.append(_row(name, name in core, list(calls.get(name, [])), check))
    return Coverage(tuple(rows), check)


def _row(name: str, core: bool, calls: list[Call], check: bool) -> Row:
    if name in SAMPLES:
        calls.append(_sized(name, SIZES[0]))
    algebra = passed = 0
    mutable = resolve(name)._schema.is_mutable
    reason = "it writes into its arguments, and a traced graph is functional" if mutable else ""
    for call in () if mutable else calls:
        try:
            traced = _trace(name, call)
        except TpoptError as refusal:
            reason = str(refusal).splitlines()[0]
            continue
        whole = [s.outs[0].name if s.outs else "" for s in traced.algebra.stages if isinstance(s, Opaque)]
        if whole:
            reason = traced.reasons.get(whole[0], "")
            continue
        algebra += 1
        failure = _failure(name, call, traced) if check else ""
        passed += not failure
        reason = f"wrong: {failure}" if failure else reason
    work = tuple(_ratio(name, n) for n in SIZES) if algebra and name in SAMPLES else ()
    return Row(name, core, len(calls), algebra, passed if check else 0, work, reason)


class _Called(torch.nn.Module):
    """One operator over given tensors, its other arguments fixed."""

    def __init__(self, name: str, call: Call) -> None:
        super().__init__()
        self.operator = resolve(name)
        leaves, self.spec = pytree.tree_flatten(call)
        self.fixed = [None if isinstance(v, torch.Tensor) else v for v in leaves]
        self.places = [k for k, v in enumerate(leaves) if isinstance(v, torch.Tensor)]

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.fixed)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        result: Any = self.operator(*args, **kwargs)
        if isinstance(result, (bool, torch.SymBool)):
            result = torch.sym_ite(result, 1, 0)  # type: ignore[no-untyped-call]
        number = isinstance(result, _NUMBERS)
        return tensors[0] * result if number else result  # so that every result is a tensor


def _sized(name: str, size: int) -> Call:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SAMPLES[name](size)


def _tensors(call: Call) -> tuple[torch.Tensor, ...]:
    return tuple(v for v in pytree.tree_leaves(call) if isinstance(v, torch.Tensor))


def _trace(name: str, call: Call) -> Traced:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trace(_Called(name, call), _tensors(call))


def _ratio(name: str, size: int) -> float:
    call = _sized(name, size)
    traced = _trace(name, call)
    return round(steps(traced.algebra, {}) / aten_steps(name, call), 2)


def _failure(name: str, call: Call, traced: Traced) -> str:
    """How the algebra differs from torch on a call; empty where it agrees."""
    module, tensors = _Called(name, call), _tensors(call)
    with torch.no_grad():
        expected = pytree.tree_leaves(module(*tensors))
    named = {n: v for n, v in zip(traced.inputs, tensors, strict=True) if n is not None}
    try:
        results = iter(to_torch(traced.algebra, check=True)(*(named[t.name] for t in traced.algebra.inputs)))
        actual = [next(results) if isinstance(o, Tensor) else o for o in traced.outputs]
    except (TpoptError, RuntimeError, IndexError, ValueError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if name.startswith(_POSITIONS) and expected[-1].dtype is torch.int64:
        actual[-1], expected[-1] = (_named_values(name, call, where) for where in (actual[-1], expected[-1]))
    return next(_differences(name, actual, expected), "")


def _named_values(name: str, call: Call, where: torch.Tensor) -> torch.Tensor:
    """The values at the positions that an operator names, whichever of several equal ones it chose."""
    args, kwargs = call
    source = args[0]
    given = dict(zip((a.name for a in resolve(name)._schema.arguments), args, strict=False))
    axis = {**given, **kwargs}.get("dim", -1)
    if source.dim() and where.dim() == source.dim():
        return torch.gather(source, axis, where)
    return torch.gather(source, axis, where.unsqueeze(axis)) if source.dim() else source


def _differences(name: str, actual: list[Any], expected: list[Any]) -> Iterator[str]:
    for got, want in zip(actual, expected, strict=True):
        if not isinstance(want, torch.Tensor):
            continue
        if got.shape != want.shape or got.dtype != want.dtype:
            yield f"{got.dtype}{tuple(got.shape)} for {want.dtype}{tuple(want.shape)}"
        if got.shape == want.shape and not name.startswith(_UNSPECIFIED):
            close = _TOLERANCES.get(want.dtype, 2e-5)
            plain = want.resolve_conj().resolve_neg()
            if not torch.allclose(got, plain, rtol=close, atol=close, equal_nan=True):
                yield f"{(got != plain).sum().item()} of {want.numel()} elements differ"
