"""The user's own figure: what it is for the original, and how far it drops for a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from tpopt._compile.untouched import same_values
from tpopt.budget import Metric
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.runtime.compiled import Specialization, State


@dataclass
class Judge:
    """Compares a plan's figure with the original's; without ``max_drop`` it admits everything."""

    metric: Metric | None
    before: float = 0.0

    @classmethod
    def of(cls, attempt: Attempt, state: State) -> Judge:
        """Runs the metric on the original."""
        if attempt.budget.max_drop is None:
            return cls(None)
        metric = attempt.budget.metric or Agreement(attempt.model)
        with torch.no_grad(), same_values(attempt, state):
            return cls(metric, float(metric(attempt.model, attempt.validation)))

    def drop(self, attempt: Attempt, special: Specialization, state: State) -> tuple[float | None, str]:
        """How far the figure drops, and why that is too far (empty where it is not).

        Batches of other shapes than the plan's run the original: for those no plan loses accuracy.
        """
        if self.metric is None:
            return None, ""
        budget = attempt.budget
        assert budget.max_drop is not None
        from tpopt._compile.build import callable_of

        plan = callable_of(attempt, special, state, lambda _args, _kwargs: None)
        with torch.no_grad(), same_values(attempt, state):
            after = float(self.metric(plan, attempt.validation))
        drop = self.before - after if budget.higher_is_better else after - self.before
        good = drop <= budget.max_drop  # not where it is NaN
        return drop, "" if good else f"the metric drops by {drop:.4g}, more than max_drop={budget.max_drop:g}"


class Agreement:
    """The share of rows whose largest output is at the label; without labels, where the original has it."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    def __call__(self, model: Callable[..., Any], validation: Iterable[Any]) -> float:
        right = total = 0
        for batch in validation:
            inputs, labels = split_labels(batch)
            rows = _first(model(*inputs)).argmax(-1)
            wanted = _first(self._original(*inputs)).argmax(-1) if labels is None else labels
            right += int((rows == wanted.to(rows.device)).sum())
            total += rows.numel()
        if not total:
            raise UsageError("validation: it holds no data; max_drop= is measured there")
        return right / total


def split_labels(batch: Any) -> tuple[Sequence[Any], torch.Tensor | None]:
    """A batch as positional inputs and, where it is a pair whose second part is integers of one axis, its labels."""
    if isinstance(batch, torch.Tensor):
        return (batch,), None
    parts = tuple(batch)
    last = parts[-1] if len(parts) > 1 else None
    if isinstance(last, torch.Tensor) and last.dim() == 1 and not (last.is_floating_point() or last.is_complex()):
        return parts[:-1], last
    return parts, None


def _first(output: Any) -> torch.Tensor:
    return next(t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor))
