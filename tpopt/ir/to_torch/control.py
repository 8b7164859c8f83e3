"""Stages that are no loop nests: scans, conditions, sorting, kernels and calls kept whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tpopt.errors import InvalidProgram
from tpopt.ir import aten
from tpopt.ir.dtypes import DType
from tpopt.ir.stages import Attribute, Cond, Opaque, Scan, Sort, TopK
from tpopt.ir.terms import Tensor as IrTensor
from tpopt.ir.to_torch.setting import Setting
from tpopt.ir.walk import stage_reads

if TYPE_CHECKING:
    from tpopt.ir.program import Program
    from tpopt.ir.to_torch.function import TorchFunction

Env = Mapping[str, Tensor]
Nested = Callable[["Program"], "TorchFunction"]


def run_sort(stage: Sort, env: Env) -> tuple[Tensor, ...]:
    """NaN is greater than every number, as torch has it."""
    source = env[stage.source.name]
    values, indices = torch.sort(source, stable=True, dim=stage.axis, descending=stage.descending)
    return values, indices


def run_topk(stage: TopK, env: Env, setting: Setting) -> tuple[Tensor, ...]:
    """By torch's own operator: of equal values, those that it takes."""
    values, indices = torch.topk(env[stage.source.name], setting.size(stage.k), stage.axis, stage.largest, stage.sorted)
    return values, indices


def run_scan(stage: Scan, env: Env, setting: Setting, nested: Nested) -> tuple[Tensor, ...]:
    """The loop, step by step."""
    body = nested(stage.body)
    carries = [env[t.name] for t in stage.init]
    captures = [env[t.name] for t in stage.captures]
    sequences = [env[t.name] for t in stage.xs]
    stacked: list[list[Tensor]] = [[] for _ in stage.outs[len(carries) :]]
    for step in range(setting.size(stage.over.extent)):
        symbols = {**setting.symbols, stage.over.name: step}
        results = body(*carries, *(x[step] for x in sequences), *captures, symbols=symbols)
        carries = list(results[: len(carries)])
        for column, result in zip(stacked, results[len(carries) :], strict=True):
            column.append(result)
    outs = stage.outs[len(carries) :]
    return (*carries, *(_stack(c, t, setting) for c, t in zip(stacked, outs, strict=True)))


def _stack(column: list[Tensor], out: IrTensor, setting: Setting) -> Tensor:
    if column:
        return torch.stack(column)
    return torch.empty(setting.shape(out), dtype=setting.torch_dtype(out.dtype), device=setting.device)


def run_cond(stage: Cond, env: Env, setting: Setting, nested: Nested) -> tuple[Tensor, ...]:
    """One branch, chosen by the predicate's value."""
    branch = stage.then if bool(env[stage.predicate.name]) else stage.otherwise
    return nested(branch)(*(env[t.name] for t in stage.captures), symbols=setting.symbols)


def run_opaque(stage: Opaque, env: Env, setting: Setting) -> tuple[Tensor, ...]:
    """The call itself, with the evaluation's float type where torch can.

    An operator without a kernel for that type runs in its own type, and its results are converted.
    """
    results = None
    if setting.dtype is not None:
        try:
            results = aten.call(_retyped(stage, setting), env, setting.symbols)
        except (RuntimeError, TypeError):
            results = None
    if results is None:
        own = {t.name: _in_own_type(env[t.name], t.dtype) for t in stage_reads(stage)} if setting.dtype else env
        results = aten.call(stage, own, setting.symbols)
    if len(results) != len(stage.outs):
        raise InvalidProgram(f"{stage.target} yields {len(results)} tensors, its stage declares {len(stage.outs)}")
    return tuple(r.to(setting.torch_dtype(o.dtype)) for r, o in zip(results, stage.outs, strict=True))


def _in_own_type(value: Tensor, dtype: DType) -> Tensor:
    return value.to(aten.torch_dtype(dtype))


def _retyped(stage: Opaque, setting: Setting) -> Opaque:
    """Float types among the arguments replaced by the evaluation's."""

    def change(value: Attribute) -> Attribute:
        if isinstance(value, DType):
            return aten.from_torch_dtype(setting.torch_dtype(value))
        return tuple(change(v) for v in value) if isinstance(value, tuple) else value

    return replace(stage, args=tuple(map(change, stage.args)), kwargs=tuple((k, change(v)) for k, v in stage.kwargs))
