"""Factorized weights as candidates: the structures of each layer that a budget may admit, as forms of the program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch

from tpopt.choose.accuracy import Errors
from tpopt.ir import Compute, Origin, Program, Stage, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.passes.factorize.factorized import Factorized
from tpopt.passes.factorize.layers import Layer, layers
from tpopt.passes.factorize.structures import factorized
from tpopt.sensitivity.output_error import OutputErrors

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt

UNBOUNDED: Final = 0.3
"""Relative error of an output up to which a structure is offered where a metric, or memory, is the only bound."""
WEIGHTS_PER_OUTPUT: Final = 8.0
"""A weight whose relative error is more than this many times the admitted error of the outputs is not tried."""


@dataclass
class Factors:
    """What approximates constants: the errors of the outputs by the name of each structure's last factor."""

    errors: dict[str, Errors] = field(default_factory=dict)
    forms: tuple[Program, ...] = ()


def factors_of(attempt: Attempt, errors: OutputErrors) -> Factors:
    """The structures of all layers of the program, and one form of the program for each rank of the list."""
    most = attempt.budget.max_error or UNBOUNDED
    program, found = attempt.forms[0], Factors()
    changing = {a.target for a in program.aliases}
    ranked: list[list[Factorized]] = []
    with attempt.history.within("factorize"):
        for layer in layers(program, changing):
            if not isinstance(layer, Layer):
                attempt.history.refused("Factorize", layer[1], [layer[0]])
                continue
            own = list(_admitted(layer, errors, most, found))
            if own:
                ranked.append(own)
            else:
                attempt.history.refused("Factorize", "no structure keeps the error within the budget", [layer.name])
    depth = max(map(len, ranked), default=0)
    found.forms = tuple(_form(program, [own[n] for own in ranked if n < len(own)], n) for n in range(depth))
    return found


def _admitted(layer: Layer, errors: OutputErrors, most: float, found: Factors) -> Iterator[Factorized]:
    """The structures of a layer that the budget may admit: that with the least work, and that with the least error.

    Those between them are left out, for each is one more form of the whole program.
    """
    measured: list[tuple[Errors, Factorized]] = []
    for made in factorized(layer, most_error=min(1.0, WEIGHTS_PER_OUTPUT * most)):
        whole = torch.from_numpy(made.whole)
        squares = errors.of(layer.weight, whole.to)
        if squares and max(squares) <= most**2:
            measured.append((squares, made))
    if not measured:
        return
    least_work = min(measured, key=lambda pair: (pair[1].macs, max(pair[0])))
    least_error = min(measured, key=lambda pair: (max(pair[0]), pair[1].macs))
    for squares, made in (least_work, least_error)[: 1 if least_work is least_error else 2]:
        found.errors[made.last.name] = squares
        yield made


def _form(program: Program, made: Sequence[Factorized], number: int) -> Program:
    """The program with some layers factorized; everything keeps its name, and means the same but for the error."""
    places: Mapping[Stage, Factorized] = {m.layer.stage: m for m in made}
    stages: list[Stage] = []
    for stage in program.stages:
        own = places.get(stage)
        stages.extend((stage,) if own is None else own.stages)
    weights = {t: v for m in made for t, v in m.weights.items()}
    origins: dict[str, Origin] = {}
    for m in made:
        origins.update({o.name: program.origin(m.layer.name) for s in m.stages for o in s.outs})
        origins.update({t.name: program.origin(m.layer.weight.name) for t in m.weights})
    used = {t for s in stages for t in stage_reads(s)}
    kept = tuple(w for w in program.weights if w in used or w in program.outputs)
    return replace(
        program,
        name=f"{program.name}.factorized.{number}",
        stages=tuple(stages),
        weights=(*kept, *weights),
        constants=MappingProxyType({**program.constants, **{t.name: v for t, v in weights.items()}}),
        origins=MappingProxyType({**origins, **program.origins}),
    ).validate()


def fragment(form: Program, before: Program) -> Program:
    """The stages of a form that the program before it has not, alone: what kernels are generated for."""
    known = set(before.stages)
    stages = [s for s in form.stages if s not in known and isinstance(s, Compute)]
    made = {o for s in stages for o in s.outs}
    reads = dict.fromkeys(t for s in stages for t in stage_reads(s) if t not in made)
    weights = {*form.weights}
    outputs: tuple[Tensor, ...] = tuple(o for s in stages for o in s.outs if o.name in before.tensors)
    return replace(
        form,
        inputs=tuple(t for t in reads if t not in weights),
        weights=tuple(t for t in reads if t in weights),
        stages=tuple(stages),
        outputs=outputs,
        aliases=(),
    )
