"""The model of a file as an ``nn.Module``: its original operators in order, on its own weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tpopt.backend.binding import STRIDE_FREE
from tpopt.errors import UnsupportedInput
from tpopt.ir import Index, Opaque, Program, Tensor, aten
from tpopt.ir.index import evaluate
from tpopt.runtime.compiled import Signature
from tpopt.runtime.guards import InputGuard


class SavedModule(torch.nn.Module):
    """Runs the operators that the model had before it was compiled. Weights are read when they are first needed.

    It can be traced, so that whatever takes a model takes a saved one: compile, verify, bench, bisect.
    """

    def __init__(
        self,
        program: Program,
        signature: Signature,
        guard: InputGuard,
        states: Mapping[str, torch.Tensor],
        read: Callable[[], Mapping[str, torch.Tensor]],
    ) -> None:
        super().__init__()
        self._program, self._signature, self._guard = program, signature, guard
        self._read: Callable[[], Mapping[str, torch.Tensor]] | None = read
        self._names: dict[str, str] = {}
        self._states = tuple(states)
        for name, value in states.items():
            self._add(name, value.clone())
        self.eval()

    def _add(self, name: str, value: torch.Tensor) -> None:
        self._names[name] = f"t{len(self._names)}_{''.join(c if c.isalnum() else '_' for c in name)}"
        self.register_buffer(self._names[name], value)

    def materialize(self) -> SavedModule:
        """Reads the weights, where that has not been done. Raises :class:`CorruptFile`."""
        if self._read is not None:
            for name, value in self._read().items():
                self._add(name, value)
            self._read = None
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Results like the model's."""
        self.materialize()
        signature, program = self._signature, self._program
        leaves, spec = pytree.tree_flatten((args, kwargs))
        if spec != signature.in_spec:
            raise UnsupportedInput("the inputs do not have the structure of those that the model was saved with")
        tensors = [v for v, name in zip(leaves, signature.leaves, strict=True) if name is not None]
        sizes = self._guard.sizes(tensors)
        if sizes is None:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise UnsupportedInput(f"the saved model does not take inputs of shapes {shapes}; it takes {self.takes}")
        values: dict[str, torch.Tensor] = {n: getattr(self, attribute) for n, attribute in self._names.items()}
        values.update(zip((t.name for t in self._guard.inputs), tensors, strict=True))
        for stage in program.stages:
            assert isinstance(stage, Opaque)
            values.update(zip((o.name for o in stage.outs), _called(stage, values, sizes), strict=True))
        for alias in program.aliases:
            target = values[alias.target]
            target.copy_(values[program.outputs[alias.output].name])
        found = [
            values[r.name] if isinstance(r, Tensor) else evaluate(r, sizes) if isinstance(r, Index) else r
            for r in signature.results
        ]
        return pytree.tree_unflatten(found, signature.out_spec)

    @property
    def takes(self) -> str:
        """The declared inputs, as text."""
        return ", ".join(map(repr, self._guard.inputs))


def _called(stage: Opaque, values: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> list[torch.Tensor]:
    """The results of one operator, whatever the strides that the ones before it left."""
    free = STRIDE_FREE.get(stage.target)
    return aten.call(stage if free is None else replace(stage, target=free), values, sizes)
