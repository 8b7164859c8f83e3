"""A mean loss as a pure function of weights and one batch: what every second-order figure is taken of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tpopt.errors import UsageError
from tpopt.ir import Program
from tpopt.ir.to_torch import to_torch

Weights: TypeAlias = dict[str, torch.Tensor]
Inputs: TypeAlias = tuple[torch.Tensor, ...]
Batch: TypeAlias = tuple[Inputs, Any]
"""Inputs, and what the loss compares the outputs with."""
Given: TypeAlias = "tuple[torch.Tensor | Inputs, Any]"
"""A batch as loaders give it: the one input of a model may stand for itself."""
Loss: TypeAlias = Callable[[Any, Any], torch.Tensor]
"""Of outputs and targets: the mean over the samples of a batch, a scalar."""


@dataclass(frozen=True)
class Objective:
    """``mean over all samples of loss(model(weights, inputs), targets)``, batch by batch.

    Attributes:
        forward: of weights, inputs and a callback that is told each value by name; returns the outputs.
        weights: values by name, detached; those that are not floats are held fixed.
        loss: the mean loss of a batch.
        batches: pairs of inputs (a tensor, or several) and targets; the last batch may be smaller.
        size: the number of samples of a batch's inputs; by default the first axis of the first.
    """

    forward: Callable[[Weights, tuple[torch.Tensor, ...], Callable[[str, torch.Tensor], None] | None], Any]
    weights: Weights
    loss: Loss
    batches: Sequence[Batch]
    size: Callable[[tuple[torch.Tensor, ...]], int] = field(default=lambda inputs: int(inputs[0].shape[0]))

    def __post_init__(self) -> None:
        """Checks that there is something to differentiate, and data. Raises :class:`UsageError`."""
        if not self.weights:
            raise UsageError("weights: the model has no floating-point weights")
        if not self.batches:
            raise UsageError("batches: the data is empty")

    @classmethod
    def of_module(cls, model: torch.nn.Module, loss: Loss, batches: Iterable[Given]) -> Objective:
        """Of a module, run in eval mode; its mode, parameters, buffers and gradients stay as they are."""
        weights = {n: p.detach() for n, p in model.named_parameters() if p.is_floating_point()}

        def forward(
            given: Weights, inputs: tuple[torch.Tensor, ...], tell: Callable[[str, torch.Tensor], None] | None
        ) -> Any:
            with _evaluating(model), _told(model, tell):
                return torch.func.functional_call(model, given, inputs)

        return cls(forward, weights, loss, _whole(batches))

    @classmethod
    def of_program(cls, program: Program, loss: Loss, batches: Iterable[Given]) -> Objective:
        """Of a program as it was rewritten; weights and values have its names. The outputs are a tuple."""
        function = to_torch(program)
        floats = {w.name for w in program.weights if w.dtype.is_float}
        weights = {n: t.detach().clone() for n, t in function.weights.items() if n in floats}

        def forward(
            given: Weights, inputs: tuple[torch.Tensor, ...], tell: Callable[[str, torch.Tensor], None] | None
        ) -> Any:
            def on_stage(stage: Any, outs: tuple[torch.Tensor, ...]) -> None:
                for tensor, value in zip(stage.outs, outs, strict=True):
                    if tell is not None:
                        tell(tensor.name, value)

            return function(*inputs, weights=given, on_stage=on_stage)

        return cls(forward, weights, loss, _whole(batches))

    def shares(self) -> list[float]:
        """Each batch's part of all samples."""
        sizes = [self.size(inputs) for inputs, _ in self.batches]
        return [s / sum(sizes) for s in sizes]

    def at(
        self, weights: Weights, batch: Batch, tell: Callable[[str, torch.Tensor], None] | None = None
    ) -> torch.Tensor:
        """The mean loss of one batch; twice differentiable, fused attention included."""
        inputs, targets = batch
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            value = self.loss(self.forward(weights, inputs, tell), targets)
        if value.dim():
            raise UsageError(f"loss: expected a scalar, the mean over the batch; got shape {tuple(value.shape)}")
        return value

    def mean(self, weights: Weights | None = None) -> float:
        """The loss over all data."""
        with torch.no_grad():
            values = (float(self.at(self.weights if weights is None else weights, b)) for b in self.batches)
            return sum(s * v for s, v in zip(self.shares(), values, strict=True))


def _whole(batches: Iterable[Given]) -> list[Batch]:
    return [((inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs), t) for inputs, t in batches]


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in model.modules()]
    for m, _ in modes:
        m.training = False
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def _told(model: torch.nn.Module, tell: Callable[[str, torch.Tensor], None] | None) -> Iterator[None]:
    """Tells each submodule's output, where it is one tensor, by the submodule's name."""
    hooks = []
    if tell is not None:
        for name, module in model.named_modules():
            hooks.append(module.register_forward_hook(lambda _m, _i, out, name=name: _tell(tell, name, out)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tell(tell: Callable[[str, torch.Tensor], None], name: str, out: Any) -> None:
    if isinstance(out, torch.Tensor):
        tell(name, out)


@contextmanager
def differentiating() -> Iterator[None]:
    """Gradients, wherever the caller has switched them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def derivative(
    value: torch.Tensor, by: Sequence[torch.Tensor], along: torch.Tensor | None = None, *, again: bool = False
) -> tuple[torch.Tensor | None, ...]:
    """The gradient by each of some tensors, ``None`` where there is no dependence; ``again`` it has one of its own."""
    outputs = None if along is None else [along]
    keep = again or along is not None
    return torch.autograd.grad([value], by, outputs, retain_graph=keep, create_graph=again, allow_unused=True)
