"""From a model, a loss and a batch to one functional graph: forward, loss and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
import torch.fx
from torch._functorch.aot_autograd import aot_export_module
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from tpopt.errors import UnsupportedModel

WHOLE: Final = (torch.ops.aten.silu_backward.default, torch.ops.aten.mish_backward.default)
"""Backward operators of ATen with both a decomposition that tracing prefers and a kernel that eager prefers."""


@dataclass(frozen=True)
class Batch:
    """The leaves of ``(inputs, targets)``, all of which are tensors, and their structure."""

    leaves: tuple[torch.Tensor, ...]
    spec: TreeSpec

    @staticmethod
    def of(batch: Any) -> Batch:
        """Takes a batch apart. Raises :class:`UnsupportedModel` where it is no pair, or holds what is no tensor."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise UnsupportedModel(
                "a batch is a pair (inputs, targets); inputs are a tensor, a tuple of arguments or a dict of keywords"
            )
        leaves, spec = tree_flatten(tuple(batch))
        wrong = next((leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)), None)
        if wrong is not None:
            raise UnsupportedModel(f"a batch holds tensors alone; this one has a {type(wrong).__name__}")
        return Batch(tuple(leaves), spec)


@dataclass(frozen=True)
class Captured:
    """The graph of a step and what its placeholders and results are.

    Placeholders are the parameters, the buffers and the leaves of the batch, in this order; results are the new values
    of ``mutated`` buffers, the loss, and the gradients of ``trained`` parameters, in this order.
    """

    graph: torch.fx.Graph
    constants: Mapping[str, torch.Tensor]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    mutated: tuple[str, ...]
    trained: tuple[str, ...]


def call_model(model: torch.nn.Module, inputs: Any) -> Any:
    """The model's output for the inputs of a batch."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def capture(model: torch.nn.Module, loss_fn: Callable[..., torch.Tensor], batch: Batch) -> Captured:
    """Traces the step that eager autograd would run, functionally: no operator writes to its operands.

    Raises :class:`UnsupportedModel` with the reason where it cannot be traced.
    """
    wrapped = _Step(model, loss_fn, batch.spec)
    wrapped.train(model.training)
    try:
        with _EagerDropout(), _kept_whole():
            exported, signature = aot_export_module(wrapped, batch.leaves, trace_joint=True, output_loss_index=0)
    except Exception as error:
        raise UnsupportedModel(f"the training step cannot be captured as one graph: {error}") from error
    module, backward = cast("torch.fx.GraphModule", exported), signature.backward_signature
    assert backward is not None, "a joint graph has a backward part"
    module.graph.eliminate_dead_code()
    returned = cast("Sequence[torch.fx.Node]", module.graph.output_node().args[0])
    gradients = dict(backward.gradients_to_parameters)
    mutated = list(signature.buffers_to_mutate.values())
    trained = [gradients[n.name] for n in returned[len(mutated) + 1 :]]
    constants = {str(n.target): getattr(module, str(n.target)) for n in module.graph.nodes if n.op == "get_attr"}
    return Captured(
        module.graph,
        constants,
        tuple(_inner(signature.parameters)),
        tuple(_inner(signature.buffers)),
        tuple(_inner(mutated)),
        tuple(_inner(trained)),
    )


def _inner(names: Any) -> list[str]:
    """Names within the model, which the traced module holds as ``model``."""
    return [name.removeprefix("model.") for name in names]


class _Step(torch.nn.Module):
    """The loss as a function of the flat batch."""

    def __init__(self, model: torch.nn.Module, loss_fn: Callable[..., torch.Tensor], spec: TreeSpec) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn
        self._spec = spec

    def forward(self, *leaves: torch.Tensor) -> tuple[torch.Tensor]:
        inputs, targets = tree_unflatten(leaves, self._spec)
        return (self._loss_fn(call_model(self.model, inputs), targets),)


@contextmanager
def _kept_whole() -> Iterator[None]:
    """Traces operators whole that eager runs as one kernel although they have a decomposition into others.

    Tracing asks an operator's ``decompose``, and rounding would then differ from eager's kernel.
    """
    for operator in WHOLE:
        operator.decompose = _undecomposed  # type: ignore[method-assign]
    try:
        yield
    finally:
        for operator in WHOLE:
            del operator.decompose


def _undecomposed(*_args: Any, **_kwargs: Any) -> Any:
    return NotImplemented


class _EagerDropout(TorchFunctionMode):
    """Spells out what eager's dropout computes on the CPU; traced whole it rounds the scale in another way."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.dropout or args[0].device.type != "cpu":
            return func(*args, **kwargs)
        x, p, train = args
        if not train or p == 0:
            return x.clone() if p == 0 and train else func(*args, **kwargs)
        if p == 1:
            return x * torch.zeros_like(x)
        noise = torch.bernoulli(torch.empty_like(x), 1 - p)
        return x * noise.div(1 - p)
