"""Checks a certificate by evaluation. Knows no law: every program of the chain must compute what the first one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tpopt.errors import InvalidProgram, TpoptError
from tpopt.ir import Program
from tpopt.ir.exact import interpret_exact, random_field_inputs
from tpopt.ir.parse import parse_program
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


def replay(certificate: Certificate) -> Replay:
    """Evaluates every program of a chain over a finite field, on the same random inputs and weights, all elements.

    Extents that nothing depends on are made small first (:mod:`tpopt.verify.resize`); two seeds. Weights are random,
    except those in ``tables``, which have the values given there. A program that does not parse, is not valid, has
    another signature, reads outside a tensor or differs in one element is refuted with the reason.
    """
    verdicts: list[StepVerdict] = []
    first = _parsed(certificate.original, certificate)
    for link in certificate.links:
        try:
            program = _parsed(link.program, certificate)
            elements = _compared(first, program, certificate)
            verdicts.append(StepVerdict(link.law, link.numerics, True, elements))
        except TpoptError as error:
            verdicts.append(StepVerdict(link.law, link.numerics, False, 0, str(error)))
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


def _compared(one: Program, other: Program, certificate: Certificate) -> int:
    """Elements in which two programs agree. Raises :class:`InvalidProgram` where they do not, or cannot be compared."""
    if one.outputs != other.outputs:
        raise InvalidProgram("the outputs have other names or types")
    known = {t.name: t for t in (*one.inputs, *one.weights)}
    for tensor in (*other.inputs, *other.weights):
        if tensor.name not in known and tensor.name not in certificate.tables:
            raise InvalidProgram(f"{tensor!r} is neither an input of the original nor in a table")
        if known.get(tensor.name, tensor) is not tensor:
            raise InvalidProgram(f"{tensor!r} is {known[tensor.name]!r} in the original")
    small = resized((one, other))
    sizes = {s.name: max(s.low, 3) for p in small for s in p.symbols}
    operations = [w.macs + w.flops for w in (work(p, sizes) for p in small)]
    if max(operations) > MOST_WORK:
        raise InvalidProgram(f"checking takes {max(operations):,} operations, more than {MOST_WORK:,}")
    count = 0
    for seed in SEEDS:
        inputs = random_field_inputs(small[0], seed, sizes)
        count += _agreeing(small, inputs, seed, certificate)
    return count


def _agreeing(pair: tuple[Program, ...], inputs: Mapping[str, Any], seed: int, certificate: Certificate) -> int:
    results = []
    for program in pair:
        missing = [t.name for t in program.inputs if t.name not in inputs]
        if missing:
            raise InvalidProgram(f"{missing[0]} is no input of the original")
        own = {t.name: inputs[t.name] for t in program.inputs}
        actual = [w.name for w in program.weights if w.name in certificate.tables]
        try:
            results.append(interpret_exact(program, own, seed=seed, actual=actual))
        except (IndexError, ValueError) as error:
            raise InvalidProgram(f"it cannot be evaluated: {error}") from None
    count = 0
    for tensor, one, other in zip(pair[0].outputs, *results, strict=True):
        if not np.array_equal(one, other):
            where = tuple(int(i) for i in np.argwhere(one != other)[0])
            raise InvalidProgram(
                f"{tensor.name}[{','.join(map(str, where))}] differs, in {int((one != other).sum())} of {one.size}"
            )
        count += one.size
    return count
