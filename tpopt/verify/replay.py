"""Checks a certificate by evaluation. Knows no law: every program of the chain must compute what the first one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpopt.errors import InvalidProgram, TpoptError
from tpopt.ir import Program
from tpopt.ir.exact import interpret_exact, random_field_inputs
from tpopt.ir.materialize import is_formula
from tpopt.ir.parse import parse_program
from tpopt.ir.program import Array
from tpopt.ir.work import work
from tpopt.rewrite.certificate import Certificate
from tpopt.verify.resize import resized

SEEDS = (0, 1)
MOST_WORK = 4 << 30
"""Operations of one evaluation of a chain, beyond which a certificate counts as not checked."""


@dataclass(frozen=True)
class StepVerdict:
    """Whether the program after one law computes what the first one does, in how many elements; why not."""

    law: str
    numerics: str
    passed: bool
    elements: int
    reason: str = ""


@dataclass(frozen=True)
class Replay:
    """The verdict on each step of a chain."""

    region: str
    steps: tuple[StepVerdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every step passed."""
        return all(s.passed for s in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        rows = [
            {"law": s.law, "numerics": s.numerics, "passed": s.passed, "elements": s.elements, "reason": s.reason}
            for s in self.steps
        ]
        return {"region": self.region, "passed": self.passed, "steps": rows}

    def __str__(self) -> str:
        lines = [
            f"  {s.law}: " + (f"equal in {s.elements:,} elements" if s.passed else f"NOT equal: {s.reason}")
            for s in self.steps
        ]
        return "\n".join([f"{self.region}: {'every step holds' if self.passed else 'refuted'}", *lines])


def replay(certificate: Certificate, *, most_work: int = MOST_WORK, seeds: Sequence[int] = SEEDS) -> Replay:
    """Evaluates every program of a chain over a finite field, on the same random inputs and weights, all elements.

    Extents that nothing depends on are made small first (:mod:`tpopt.verify.resize`); two seeds. Weights are random,
    except those in ``tables``, which have the values given there. A program that does not parse, is not valid, has
    another signature, reads outside a tensor, takes more than ``most_work`` operations or differs in one element is
    refuted with the reason.
    """
    first = _parsed(certificate.original, certificate)
    programs: list[Program] = []
    reasons: dict[int, str] = {}
    for number, link in enumerate(certificate.links):
        try:
            program = _parsed(link.program, certificate)
            _check_signature(first, program, certificate)
            programs.append(program)
        except TpoptError as error:
            reasons[number] = str(error)
    small = iter(resized((first, *programs)))
    reference = _Evaluation(next(small), certificate, most_work, seeds)
    verdicts: list[StepVerdict] = []
    for number, link in enumerate(certificate.links):
        elements = 0
        if number not in reasons:
            try:
                elements = reference.compare(next(small))
            except TpoptError as error:
                reasons[number] = str(error)
        reason = reasons.get(number, "")
        verdicts.append(StepVerdict(link.law, link.numerics, not reason, elements, reason))
    return Replay(certificate.region, tuple(verdicts))


def _parsed(text: str, certificate: Certificate) -> Program:
    program = parse_program(text)
    tables = {w.name: certificate.tables[w.name] for w in program.weights if w.name in certificate.tables}
    for weight in program.weights:
        table = tables.get(weight.name)
        if table is None and not (weight.dtype.is_float or weight.dtype.is_complex):
            raise InvalidProgram(f"weight {weight.name} has no table; only floating-point weights may have any value")
        if table is not None and tuple(weight.shape) != table.shape:
            raise InvalidProgram(f"weight {weight!r}: its table has shape {table.shape}")
    return replace(program, constants=tables).validate()


def _check_signature(one: Program, other: Program, certificate: Certificate) -> None:
    if one.outputs != other.outputs:
        raise InvalidProgram("the outputs have other names or types")
    known = {t.name: t for t in (*one.inputs, *one.weights)}
    for tensor in (*other.inputs, *other.weights):
        given = tensor.name in known or tensor.name in certificate.tables or is_formula(tensor.structure)
        if not given:
            raise InvalidProgram(f"{tensor!r} is neither an input of the original nor in a table")
        if known.get(tensor.name, tensor) is not tensor:
            raise InvalidProgram(f"{tensor!r} is {known[tensor.name]!r} in the original")


@dataclass
class _Evaluation:
    """The first program at small sizes, and its outputs by seed once they are computed."""

    program: Program
    certificate: Certificate
    most_work: int
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        self.sizes = {s.name: max(s.low, 3) for s in self.program.symbols}
        self.inputs = {seed: random_field_inputs(self.program, seed, self.sizes) for seed in self.seeds}
        self.outputs: dict[int, tuple[Array, ...]] = {}

    def compare(self, other: Program) -> int:
        """Elements in which the other agrees. Raises :class:`InvalidProgram` where it does not, or takes too long."""
        return sum(self._compared(other, seed) for seed in self.seeds)

    def _compared(self, other: Program, seed: int) -> int:
        if seed not in self.outputs:
            self.outputs[seed] = self._values(self.program, seed)
        count = 0
        for tensor, one, new in zip(self.program.outputs, self.outputs[seed], self._values(other, seed), strict=True):
            if not np.array_equal(one, new):
                where = tuple(int(i) for i in np.argwhere(one != new)[0])
                place, wrong = ",".join(map(str, where)), int((one != new).sum())
                raise InvalidProgram(f"{tensor.name}[{place}] differs, and {wrong} of {one.size} elements do")
            count += one.size
        return count

    def _values(self, program: Program, seed: int) -> tuple[Array, ...]:
        done = work(program, self.sizes)
        if done.macs + done.flops > self.most_work:
            raise InvalidProgram(f"checking takes {done.macs + done.flops:,} operations, more than {self.most_work:,}")
        given = self.inputs[seed]
        missing = [t.name for t in program.inputs if t.name not in given]
        if missing:
            raise InvalidProgram(f"{missing[0]} is no input of the original")
        actual = [w.name for w in program.weights if w.name in self.certificate.tables]
        try:
            return interpret_exact(program, {t.name: given[t.name] for t in program.inputs}, seed=seed, actual=actual)
        except (IndexError, ValueError) as error:
            raise InvalidProgram(f"it cannot be evaluated: {error}") from None
