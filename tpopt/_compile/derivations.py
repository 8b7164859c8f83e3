"""Derivations in a compilation: proved where a choice wants them, and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpopt.choose.candidate import Candidate, Candidates
from tpopt.ir.canonical import structural_hash
from tpopt.ir.parse import parse_program
from tpopt.report import DerivationRow
from tpopt.rewrite import Trace
from tpopt.rewrite.certificate import Certificate
from tpopt.rewrite.trace import Derived
from tpopt.verify.replay import StepVerdict, replay

MOST_WORK = 1 << 30
"""Operations of checking one program; what takes more is not used. It takes a few seconds."""
UNPROVED = "the derivation that it belongs to was not proved"
WRONG = "a plan with it, or with less of the same in one kernel, gave a wrong value"
REJECTED = "a plan with the derivation that it belongs to failed its verification"


def wanted(trace: Trace, picked: Sequence[Candidate]) -> tuple[Derived, ...]:
    """The derivations whose own tensors some picked candidate computes or passes through."""
    touched = {n for c in picked for n in (*c.covers, *(v.name for v in c.produces))}
    return tuple(d for d in trace.derived if touched.intersection(d.makes))


class Prover:
    """Confirms derivations by evaluation over a finite field: those that are equal but for names once.

    What runs is checked, the last program of each chain, with one seed; ``tpopt replay`` checks every step with two.
    What is not confirmed is traced with the reason.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._verdicts: dict[object, StepVerdict] = {}

    def all_proved(self, picked: Sequence[Candidate]) -> bool:
        """Whether every derivation that a choice wants is confirmed."""
        return not self._failed(picked)

    def admits(self, picked: Sequence[Candidate], found: Candidates) -> bool:
        """The same; the candidates that belong to others are refused, so that the next choice does without them."""
        failed = self._failed(picked)
        if failed:
            left = _without(found, failed, UNPROVED)
            found.admitted, found.refused, found.unbuilt = left.admitted, left.refused, left.unbuilt
        return not failed

    def _failed(self, picked: Sequence[Candidate]) -> list[Derived]:
        return [d for d in wanted(self._trace, picked) if not self._proved(d)]

    def _proved(self, derived: Derived) -> bool:
        certificate = replace(derived.certificate, links=derived.certificate.links[-1:])
        key = _claim(certificate)
        if key not in self._verdicts:
            (self._verdicts[key],) = replay(certificate, most_work=MOST_WORK, seeds=(0,)).steps
        verdict = self._verdicts[key]
        if not verdict.passed:
            with self._trace.within("derive"):
                self._trace.refused("Prove", verdict.reason, [derived.name])
        return verdict.passed


def _claim(certificate: Certificate) -> object:
    """What a certificate of one step claims, but for names; where values matter, names say which these are."""
    (link,) = certificate.links
    if certificate.tables:
        return certificate.original, link.program
    one, other = parse_program(certificate.original), parse_program(link.program)
    places = {t.name: n for n, t in enumerate((*one.inputs, *one.weights))}
    roles = tuple(places.get(t.name, -1) for t in (*other.inputs, *other.weights))
    return structural_hash(one), structural_hash(other), roles


def without_derived(found: Candidates, trace: Trace, picked: Sequence[Candidate]) -> Candidates | None:
    """The candidates that are no part of the derivations which some picked ones use; ``None`` where they use none."""
    derived = wanted(trace, picked)
    return _without(found, derived, REJECTED) if derived else None


def without_culprit(found: Candidates, trace: Trace, picked: Sequence[Candidate], name: str) -> Candidates | None:
    """The candidates but for what made a value that is wrong; ``None`` where an original operator made it.

    A derivation goes as a whole. Of kernels those go that compute the same in one, or more.
    """
    makers = [c for c in picked if any(v.name == name for v in c.produces)]
    derived = wanted(trace, makers)
    if derived:
        return _without(found, derived, REJECTED)
    if not makers or any(c.name.endswith(":original") for c in makers):
        return None
    offered = (*found.admitted, *found.unbuilt)
    lost = [c for c in offered if any(c.kind == m.kind and {*m.covers} <= {*c.covers} for m in makers)]
    return found.without(lost, WRONG)


def _without(found: Candidates, derived: Sequence[Derived], reason: str) -> Candidates:
    makes = {name for d in derived for name in d.makes}
    offered = (*found.admitted, *found.unbuilt)
    lost = [c for c in offered if makes.intersection((*c.covers, *(v.name for v in c.produces)))]
    return found.without(lost, reason)


def derivation_rows(trace: Trace, picked: Sequence[Candidate]) -> tuple[DerivationRow, ...]:
    """What the report says of the derivations that were chosen."""
    return tuple(DerivationRow(cover=(d.name,), laws=d.laws) for d in wanted(trace, picked))
