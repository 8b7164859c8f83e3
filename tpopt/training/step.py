"""``tpopt.compile_step``: a training step that stays within a memory budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tpopt.errors import GuardFailed, UnsupportedInput
from tpopt.measure.live_bytes import LiveBytes
from tpopt.passes.rematerialize import Search
from tpopt.training.budget import bytes_of
from tpopt.training.capture import Batch, Captured, call_model, capture
from tpopt.training.operations import Operations
from tpopt.training.plan import StepPlan, native_annealer, plan_step
from tpopt.training.report import StepReport
from tpopt.training.runner import Observer, Runner

TIMED_RUNS = 3
"""Runs of which each operator's fastest time counts."""


def compile_step(
    model: torch.nn.Module,
    loss_fn: Callable[..., torch.Tensor],
    example_batch: Any,
    memory_budget: str | float,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    seconds: float = 30.0,
    moves: int | None = None,
    seed: int = 0,
) -> CompiledStep:
    """Captures forward, loss and backward as one graph and schedules it within a memory budget.

    ``step(batch)`` then does what ``loss_fn(model(inputs), targets).backward()`` does, bit for bit with the same
    operators: it returns the loss, accumulates ``.grad`` and updates buffers. Some operators run again where that saves
    memory; operators that draw random numbers run once and in their order.

    Args:
        model: what is trained; parameters may change between steps, their shapes may not.
        loss_fn: ``loss_fn(output, targets)``, a scalar.
        example_batch: ``(inputs, targets)``; inputs are a tensor, a tuple of arguments or a dict of keywords. Every
            later batch has the same shapes and dtypes.
        memory_budget: bytes that the step may allocate at one time, beyond parameters, buffers and the batch, with
            gradients: ``"1.5GiB"``, a number of bytes, or (up to 1) a part of what eager's step takes, which is
            measured by running it once.
        optimizer: where given, ``step`` and ``zero_grad`` of it follow each backward pass.
        seconds: how long to search for the schedule.
        moves: moves to search instead, for the same schedule every time.
        seed: seed of the search.

    Raises:
        UnsupportedModel: the step cannot be captured as one functional graph; the message says why.
        LimitExceeded: no schedule within the budget was found; the message has the lowest peak.
        UsageError: the budget is no budget.
    """
    with torch.random.fork_rng(devices=[]):
        search = Search("free", seconds, moves, seed)
        return _compiled(model, loss_fn, example_batch, memory_budget, optimizer, search)


def _compiled(
    model: torch.nn.Module,
    loss_fn: Callable[..., torch.Tensor],
    example_batch: Any,
    memory_budget: str | float,
    optimizer: torch.optim.Optimizer | None,
    search: Search,
) -> CompiledStep:
    batch = Batch.of(example_batch)
    eager_peak = _eager_peak(model, loss_fn, example_batch)
    budget = bytes_of(memory_budget, eager_peak)
    captured = capture(model, loss_fn, batch)
    operations = Operations.of(captured.graph)
    _measure(operations, captured, model, batch)
    plan = plan_step(operations, budget, search, annealer=native_annealer())
    return CompiledStep(model, captured, operations, plan, batch, optimizer, budget=budget, eager_peak=eager_peak)


class CompiledStep:
    """A scheduled training step; ``report`` says what it does, ``plan`` in which order."""

    def __init__(
        self,
        model: torch.nn.Module,
        captured: Captured,
        operations: Operations,
        plan: StepPlan,
        example: Batch,
        optimizer: torch.optim.Optimizer | None,
        *,
        budget: int,
        eager_peak: int,
    ) -> None:
        self._model = model
        self._captured = captured
        self._optimizer = optimizer
        self._spec = example.spec
        self._facts = [(t.shape, t.dtype, t.device) for t in example.leaves]
        self._training = model.training
        self._runner = Runner(operations, plan.sequence, captured.constants)
        self.operations = operations
        self.plan = plan
        self.report = StepReport.of(operations, plan, budget=budget, eager_peak=eager_peak)

    def __call__(self, batch: Any, *, observer: Observer | None = None) -> torch.Tensor:
        """Runs one step and returns the loss, detached; ``observer`` hears of each operation.

        Raises:
            UnsupportedInput: the batch differs from the example in structure, shape, dtype or device.
            GuardFailed: the model is in the other one of training and evaluation mode.
        """
        given = Batch.of(batch)
        if given.spec != self._spec or [(t.shape, t.dtype, t.device) for t in given.leaves] != self._facts:
            raise UnsupportedInput(f"the step was compiled for a batch of {self._facts}; compile another one for this")
        if self._model.training != self._training:
            raise GuardFailed(f"the step was compiled with model.training == {self._training}; set it back")
        with torch.no_grad():
            placeholders = _placeholders(self._captured, self._model, given)
            results = self._runner.run(placeholders, observer)
            return self._finish(results)

    def _finish(self, results: list[Any]) -> torch.Tensor:
        """Writes buffers and gradients, as eager does, and lets the optimizer step."""
        mutated, trained = self._captured.mutated, self._captured.trained
        for name, value in zip(mutated, results[: len(mutated)], strict=True):
            self._model.get_buffer(name).copy_(value)
        loss: torch.Tensor = results[len(mutated)]
        gradients = results[len(mutated) + 1 :]
        results.clear()
        for k, name in enumerate(trained):
            _accumulate(self._model.get_parameter(name), gradients[k])
            gradients[k] = None
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return loss


def _accumulate(parameter: torch.nn.Parameter, gradient: torch.Tensor | None) -> None:
    if gradient is None:
        return
    if parameter.grad is None:
        shared = gradient.untyped_storage().nbytes() != gradient.numel() * gradient.element_size()
        same = gradient.stride() == parameter.stride() and not shared
        parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient)


def _placeholders(captured: Captured, model: torch.nn.Module, batch: Batch) -> dict[torch.fx.Node, torch.Tensor]:
    nodes = [n for n in captured.graph.nodes if n.op == "placeholder"]
    tensors = [
        *(model.get_parameter(name).detach() for name in captured.parameters),
        *(model.get_buffer(name) for name in captured.buffers),
        *batch.leaves,
    ]
    return dict(zip(nodes, tensors, strict=True))


def _eager_peak(model: torch.nn.Module, loss_fn: Callable[..., torch.Tensor], batch: Any) -> int:
    """Bytes that eager's step takes at its busiest, gradients included; the model is as before afterwards."""
    parameters = list(model.parameters())
    kept = [p.grad for p in parameters]
    buffers = [b.clone() for b in model.buffers()]
    for p in parameters:
        p.grad = None
    try:
        with LiveBytes() as count:
            loss_fn(call_model(model, batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
    finally:
        for p, grad in zip(parameters, kept, strict=True):
            p.grad = grad
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
    return int(count.peak)


def _measure(operations: Operations, captured: Captured, model: torch.nn.Module, batch: Batch) -> None:
    """Measures every operator in the order of the capture: its time, and the bytes of its results.

    Some kernels leave a result in a storage that is larger than the result: a reduced loss has that of all its terms.
    """
    runner = Runner(operations, range(len(operations.items)), captured.constants)
    placeholders = _placeholders(captured, model, batch)
    times = [float("inf")] * len(operations.items)

    def observe(number: int, seconds: float, results: tuple[Any, ...]) -> None:
        times[number] = min(times[number], seconds)
        operations.items[number].sizes = tuple(
            t.untyped_storage().nbytes() if isinstance(t, torch.Tensor) else 0 for t in results
        )

    with torch.no_grad():
        for _ in range(TIMED_RUNS):
            runner.run(placeholders, observe)
    for op, seconds in zip(operations.items, times, strict=True):
        op.seconds = seconds
