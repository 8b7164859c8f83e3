"""The callable: binds symbols, runs the stages in order, and frees what nobody reads any more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import torch

from tpopt.errors import UnknownName, UnsupportedInput, UsageError
from tpopt.ir import aten
from tpopt.ir.index import Symbol, walk_atoms
from tpopt.ir.materialize import materialize
from tpopt.ir.program import Program
from tpopt.ir.stages import Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Tensor
from tpopt.ir.to_torch.compute import lower_compute
from tpopt.ir.to_torch.control import run_cond, run_opaque, run_scan, run_sort, run_topk
from tpopt.ir.to_torch.scatter import lower_scatter
from tpopt.ir.to_torch.setting import Setting, bind_symbols, symbols_of
from tpopt.ir.to_torch.tape import Plan, plain_tensors
from tpopt.ir.walk import stage_reads

OnStage: TypeAlias = Callable[[Stage, tuple[torch.Tensor, ...]], None]
_KEPT_PLANS = 4
"""Plans kept for each stage: one for each set of symbol values met lately."""


def to_torch(
    program: Program,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    check: bool = False,
    fast: bool = True,
) -> TorchFunction:
    """A plain differentiable torch function that computes a program.

    Args:
        program: what to compute.
        dtype: replaces every float type (``torch.float64`` evaluates all floats in double; complex types follow).
        device: where to compute; ``None`` is where the inputs are.
        check: test that every looked-up index is within its declared bounds.
        fast: use library matrix products and convolutions where the algebra is one; ``False`` leaves ``einsum``.

    Raises:
        UsageError: ``dtype`` is no float type.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise UsageError(f"dtype={dtype}: expected a real floating-point type, such as torch.float64")
    return TorchFunction(program, dtype, None if device is None else torch.device(device), check=check, fast=fast)


class TorchFunction:
    """``fn(*inputs, weights=None) -> tuple of outputs``; gradients flow to inputs and weights.

    Nothing given is ever written to. Outputs may share memory with inputs and weights, and weights with the program's
    constants: copy before writing into them.
    """

    def __init__(
        self, program: Program, dtype: torch.dtype | None, device: torch.device | None, *, check: bool, fast: bool
    ) -> None:
        self.program = program
        self._base = Setting(dtype, device or torch.device("cpu"), {}, fast, check)
        self._fixed_device = device
        self._weights: dict[str, torch.Tensor] = {}
        self._inner: dict[int, tuple[Program, TorchFunction]] = {}
        self._plans: dict[Stage, OrderedDict[tuple[object, ...], Plan]] = {}
        self._symbols: dict[Stage, tuple[str, ...]] = {}
        self._last = _last_uses(program)

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """The value of every weight by name, in the evaluation's type."""
        for weight in self.program.weights:
            if weight.name not in self._weights:
                self._weights[weight.name] = self._weight(weight)
        return MappingProxyType(self._weights)

    def origin(self, name: str) -> tuple[str, ...]:
        """Names of the parameters that a weight comes from (a folded weight has several)."""
        known = [w.name for w in self.program.weights]
        if name not in known:
            raise UnknownName("weight", name, known)
        return self.program.origin(name).nodes

    def __call__(
        self,
        *inputs: torch.Tensor,
        weights: Mapping[str, torch.Tensor] | None = None,
        symbols: Mapping[str, int] | None = None,
        on_stage: OnStage | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Runs the program.

        Args:
            inputs: one tensor for each of ``program.inputs``, in order.
            weights: values to use instead of the program's own, by name.
            symbols: values of symbols that no input's shape tells.
            on_stage: called after each stage with the stage and its outputs.

        Raises:
            UnsupportedInput: a wrong number of inputs, or shapes that contradict the program.
            UnknownName: ``weights`` names no weight of the program.
        """
        setting, env = self._bind(inputs, weights or {}, symbols or {})
        for number, stage in enumerate(self.program.stages):
            outs = self._run(stage, env, setting)
            setting = self._learn(stage, outs, setting)
            env.update(zip((o.name for o in stage.outs), outs, strict=True))
            if on_stage is not None:
                on_stage(stage, outs)
            for name in self._last[number]:
                del env[name]
        return tuple(env[o.name].resolve_conj().resolve_neg().contiguous() for o in self.program.outputs)

    def _bind(
        self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor], symbols: Mapping[str, int]
    ) -> tuple[Setting, dict[str, torch.Tensor]]:
        declared = self.program.inputs
        if len(inputs) != len(declared):
            names = ", ".join(t.name for t in declared)
            raise UnsupportedInput(
                f"program {self.program.name} takes {len(declared)} inputs ({names}), got {len(inputs)}"
            )
        for tensor, value in zip(declared, inputs, strict=True):
            if value.dim() != tensor.rank:
                raise UnsupportedInput(
                    f"input {tensor.name} has shape {tuple(value.shape)}, expected rank {tensor.rank}: {tensor!r}"
                )
        bound = bind_symbols(declared, [tuple(v.shape) for v in inputs], symbols)
        device = self._fixed_device or (inputs[0].device if inputs else self._base.device)
        setting = Setting(self._base.dtype, device, bound, self._base.fast, self._base.check)
        known = self.weights
        for name in weights:
            if name not in known:
                raise UnknownName("weight", name, list(known))
        env = {t.name: self._as(v, t, setting) for t, v in zip(declared, inputs, strict=True)}
        env.update({w.name: self._as(weights.get(w.name, known[w.name]), w, setting) for w in self.program.weights})
        return setting, env

    def _as(self, value: torch.Tensor, tensor: Tensor, setting: Setting) -> torch.Tensor:
        wanted = setting.torch_dtype(tensor.dtype)
        if value.dtype.is_complex and not wanted.is_complex:
            raise UnsupportedInput(f"{tensor.name} is {value.dtype}, expected {tensor.dtype}")
        return value.to(device=setting.device, dtype=wanted)

    def _weight(self, weight: Tensor) -> torch.Tensor:
        array = self.program.constants.get(weight.name)
        with plain_tensors():
            made = torch.from_numpy(materialize(weight)) if array is None else aten.from_numpy(array, weight.dtype)
            return made.to(device=self._base.device, dtype=self._base.torch_dtype(weight.dtype))

    def _learn(self, stage: Stage, outs: tuple[torch.Tensor, ...], setting: Setting) -> Setting:
        """Symbols that a call's results bind: an output whose shape depends on data."""
        if not isinstance(stage, Opaque):
            return setting
        fresh = [a for o in stage.outs for e in o.shape for a in walk_atoms(e) if isinstance(a, Symbol)]
        if all(a.name in setting.symbols for a in fresh):
            return setting
        bound = bind_symbols(stage.outs, [tuple(o.shape) for o in outs], setting.symbols)
        return Setting(setting.dtype, setting.device, bound, setting.fast, setting.check)

    def _run(self, stage: Stage, env: Mapping[str, torch.Tensor], setting: Setting) -> tuple[torch.Tensor, ...]:
        match stage:
            case Compute() | Scatter():
                return self._plan(stage, setting)(env)
            case Sort():
                return run_sort(stage, env)
            case TopK():
                return run_topk(stage, env, setting)
            case Scan():
                return run_scan(stage, env, setting, self._nested)
            case Cond():
                return run_cond(stage, env, setting, self._nested)
            case Kernel():
                return self._kernel(stage, env, setting)
            case Opaque():
                return run_opaque(stage, env, setting)

    def _plan(self, stage: Compute | Scatter, setting: Setting) -> Plan:
        if stage not in self._symbols:
            self._symbols[stage] = symbols_of(stage)
        key = (setting.device, *(setting.symbols.get(name) for name in self._symbols[stage]))
        plans = self._plans.setdefault(stage, OrderedDict())
        plan = plans.get(key)
        if plan is None:
            with plain_tensors():
                plan = lower_compute(stage, setting) if isinstance(stage, Compute) else lower_scatter(stage, setting)
            plans[key] = plan
            while len(plans) > _KEPT_PLANS:
                plans.popitem(last=False)
        return plan

    def _kernel(self, stage: Kernel, env: Mapping[str, torch.Tensor], setting: Setting) -> tuple[torch.Tensor, ...]:
        inner = {t.name: env[t.name] for t in stage.reads}
        pending = list(reversed(stage.defines))
        while pending:
            part = pending.pop()
            inner.update(zip((o.name for o in part.outs), self._run(part, inner, setting), strict=True))
        return tuple(inner[o.name] for o in stage.outs)

    def _nested(self, body: Program) -> TorchFunction:
        if id(body) not in self._inner:
            made = TorchFunction(
                body, self._base.dtype, self._fixed_device, check=self._base.check, fast=self._base.fast
            )
            self._inner[id(body)] = (body, made)
        return self._inner[id(body)][1]


def _last_uses(program: Program) -> list[tuple[str, ...]]:
    """For each stage the tensors that nobody reads after it (outputs are kept)."""
    seen = dict.fromkeys(o.name for o in program.outputs)
    last: list[tuple[str, ...]] = []
    for stage in reversed(program.stages):
        names = dict.fromkeys(t.name for t in (*stage_reads(stage), *stage.outs))
        dying = tuple(n for n in names if n not in seen)
        seen.update(dict.fromkeys(dying))
        last.append(dying)
    return list(reversed(last))
