"""Program: inputs, weights, stages in topological order, outputs; names, values and sources travel beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from tpopt.ir.index import Symbol
from tpopt.ir.stages import Stage
from tpopt.ir.terms import Tensor

Array = npt.NDArray[Any]


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Origin:
    """Where a tensor comes from in the user's model.

    ``nodes`` are names of traced operators, ``lines`` are ``file:line`` with the statement, ``module`` the module path.
    For a weight, ``nodes`` are parameter names (a folded weight has several).
    """

    nodes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    module: str = ""


@dataclass(frozen=True)
class Alias:
    """After a run, output number ``output`` overwrites the input (or weight) tensor named ``target``."""

    output: int
    target: str


@dataclass(frozen=True, eq=False)
class Program:
    """A pure function in single assignment: ``outputs = stages(inputs, weights)``.

    A tensor name means one value: passes may add or drop tensors, never change what a name stands for.
    ``constants`` holds the weights' values (numpy, row-major; bf16 as its bits in ``uint16``) and ``origins`` the
    sources; neither is part of the program's identity.
    """

    name: str
    inputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    stages: tuple[Stage, ...]
    outputs: tuple[Tensor, ...]
    aliases: tuple[Alias, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=_empty, compare=False, repr=False)
    origins: Mapping[str, Origin] = field(default_factory=_empty, compare=False, repr=False)

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """What makes two nested programs the same to a stage that holds them: everything but their origins."""
        values = tuple((name, id(array)) for name, array in self.constants.items())
        own = (self.name, self.inputs, self.weights, self.stages, self.outputs, self.aliases, self.symbols)
        return ("Program", *own, values)

    def __reduce__(self) -> tuple[Callable[..., Program], tuple[object, ...]]:
        """Pickles as text, which is flat however deep the terms are."""
        return _restore, (str(self), dict(self.constants), dict(self.origins))

    @cached_property
    def producers(self) -> Mapping[Tensor, Stage]:
        """The stage that defines each tensor."""
        return MappingProxyType({out: stage for stage in self.stages for out in stage.outs})

    @cached_property
    def consumers(self) -> Mapping[Tensor, tuple[Stage, ...]]:
        """The stages that read each tensor, in program order."""
        from tpopt.ir.walk import stage_reads

        found: dict[Tensor, list[Stage]] = {}
        for stage in self.stages:
            for tensor in stage_reads(stage):
                found.setdefault(tensor, []).append(stage)
        return MappingProxyType({t: tuple(s) for t, s in found.items()})

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor by name: inputs, weights, then locals in program order."""
        return MappingProxyType({t.name: t for t in self._all_tensors()})

    def _all_tensors(self) -> Iterator[Tensor]:
        yield from self.inputs
        yield from self.weights
        for stage in self.stages:
            yield from stage.outs

    def role(self, tensor: Tensor) -> str:
        """``input``, ``weight``, ``output`` or ``local``."""
        if tensor in self.inputs:
            return "input"
        if tensor in self.weights:
            return "weight"
        return "output" if tensor in self.outputs else "local"

    def origin(self, name: str) -> Origin:
        """The tensor's source, empty when unknown."""
        return self.origins.get(name, Origin())

    def with_stages(self, stages: tuple[Stage, ...], **changes: Any) -> Program:
        """The same program with other stages (and other fields by keyword)."""
        return replace(self, stages=stages, **changes)

    def validate(self) -> Program:
        """Checks that it is well formed. Raises :class:`InvalidProgram`; returns itself."""
        from tpopt.ir.validate import validate

        validate(self)
        return self

    def __str__(self) -> str:
        from tpopt.ir.text import print_program

        return print_program(self)


def _restore(text: str, constants: dict[str, Array], origins: dict[str, Origin]) -> Program:
    from tpopt.ir.parse import parse_program

    return replace(parse_program(text), constants=MappingProxyType(constants), origins=MappingProxyType(origins))
