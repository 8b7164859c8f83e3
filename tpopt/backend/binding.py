"""Binds the stages of a plan to callables: operators resolved, constant arguments decoded, weights prepacked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch

from tpopt.backend.call import Call, Ref
from tpopt.backend.operators import function, out_function, returns_one_tensor
from tpopt.errors import InvalidProgram, KernelUnsupported
from tpopt.ir import Kernel, Opaque, Stage, Tensor
from tpopt.ir.aten import decode, flatten_outputs
from tpopt.ir.stages import Attribute

KernelBinder: TypeAlias = "Callable[[Kernel, Binder, Mapping[str, int]], Call]"

STRIDE_FREE = {  # ATen's views demand strides that another kernel need not produce; these mean the same on any strides
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}


class Binder:
    """Holds the weights of one compiled model and what was packed from them.

    ``weights`` maps names to tensors (shared with the user's model where nothing was folded).
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.weights = dict(weights)
        self._packed: dict[tuple[Any, ...], Any] = {}
        self._asked: dict[tuple[Any, ...], None] = {}

    def packed(self, key: tuple[Any, ...], build: Callable[[], Any]) -> Any:
        """What ``build`` returned the first time this key was asked for.

        Raises :class:`KernelUnsupported` with what a library says that does not pack for this processor.
        """
        self._asked[key] = None
        if key not in self._packed:
            try:
                self._packed[key] = build()
            except RuntimeError as error:
                raise KernelUnsupported(str(error).partition("\n")[0]) from error
        return self._packed[key]

    def keep_only(self, stages: Iterable[Stage], sizes: Mapping[str, int]) -> None:
        """Forgets what was packed for any but these stages: candidates that lost leave nothing behind."""
        self._asked.clear()
        for stage in stages:
            self.bind(stage, sizes)
        self._packed = {key: self._packed[key] for key in self._asked}

    @property
    def packed_bytes(self) -> int:
        """Bytes of everything packed so far (a packed weight occupies what its dense form does, at least)."""
        return sum(_bytes(v) for v in self._packed.values())

    def bind(self, stage: Stage, sizes: Mapping[str, int]) -> Call:
        """The call of one stage for given symbol values. Raises :class:`InvalidProgram` for what is no kernel."""
        if not isinstance(stage, (Opaque, Kernel)):
            raise InvalidProgram(
                f"{type(stage).__name__} of {stage.outs[0].name} is no kernel: a plan holds Kernel and Opaque stages"
            )
        from tpopt.backend.library import binders

        if isinstance(stage, Opaque):
            name, bind = stage.target, partial(bind_operator, stage)
        else:
            name, bind = stage.implementation, partial(binders()[stage.implementation], stage, self)
        try:
            return bind(sizes)
        except KeyError as error:
            raise InvalidProgram(
                f"{name} takes the run-time integer {error.args[0]}, which no input's shape tells"
            ) from error


def bind_operator(stage: Opaque, sizes: Mapping[str, int]) -> Call:
    """An ATen operator as a call."""
    target = STRIDE_FREE.get(stage.target, stage.target)
    args = tuple(_argument(a, sizes) for a in stage.args)
    kwargs = tuple((k, _argument(v, sizes)) for k, v in stage.kwargs)
    single = returns_one_tensor(target)
    call = function(target) if single else _flat(function(target))
    names = tuple(o.name for o in stage.outs)
    out = out_function(target) if single and not stage.effectful else None  # trying it out would draw random numbers
    return Call(target, call, args, kwargs, names, single, out)


def _argument(value: Attribute, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, Tensor):
        return Ref(value.name)
    if isinstance(value, tuple):
        return [_argument(v, sizes) for v in value]
    return decode(value, {}, sizes)


def _flat(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: flatten_outputs(call(*args, **kwargs))


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size() if value.layout is torch.strided else value.nbytes
    if isinstance(value, (list, tuple)):
        return sum(_bytes(v) for v in value)
    return int(getattr(value, "packed_bytes", 0))
