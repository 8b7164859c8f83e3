"""Derivations in a compilation: proved where a choice wants them, and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpopt.choose.candidate import Candidate, Candidates, Refused
from tpopt.ir import Program
from tpopt.passes.derive.derive import MARK
from tpopt.report import DerivationRow
from tpopt.rewrite import Trace
from tpopt.rewrite.trace import Derived
from tpopt.verify.replay import replay

MOST_WORK = 1 << 27
"""Operations of checking one program; what takes more is not used. It takes a few seconds."""


def wanted(trace: Trace, picked: Sequence[Candidate]) -> tuple[Derived, ...]:
    """The derivations whose own tensors some picked candidate computes or passes through."""
    touched = {n for c in picked for n in (*c.covers, *(v.name for v in c.produces))}
    return tuple(d for d in trace.derived if touched.intersection(d.makes))


def all_proved(trace: Trace, picked: Sequence[Candidate]) -> bool:
    """Whether an evaluation over a finite field confirms every derivation that a choice wants; else why not is traced.

    What runs is checked, the last program of each chain, with one seed; ``tpopt replay`` checks every step with two.
    """
    proved = True
    for derived in wanted(trace, picked):
        result = replace(derived.certificate, links=derived.certificate.links[-1:])
        (verdict,) = replay(result, most_work=MOST_WORK, seeds=(0,)).steps
        if not verdict.passed:
            proved = False
            with trace.within("derive"):
                trace.refused("Prove", verdict.reason, [derived.name])
    return proved


def without_derived(found: Candidates, trace: Trace, picked: Sequence[Candidate]) -> Candidates | None:
    """The candidates that are no part of the derivations which some picked ones use; ``None`` where they use none."""
    makes = {name for d in wanted(trace, picked) for name in d.makes}
    if not makes:
        return None
    lost = [c for c in found.admitted if makes.intersection((*c.covers, *(v.name for v in c.produces)))]
    reason = "a plan with the derivation that it belongs to failed its verification"
    refused = [*found.refused, *(Refused(c.name, c.kind, c.covers, reason) for c in lost)]
    return replace(found, admitted=[c for c in found.admitted if c not in lost], refused=refused)


def without_derivations(forms: Sequence[Program]) -> tuple[Program, ...]:
    """The forms that no law made."""
    return tuple(f for f in forms if MARK not in f.name)


def derivation_rows(trace: Trace, picked: Sequence[Candidate]) -> tuple[DerivationRow, ...]:
    """What the report says of the derivations that were chosen."""
    return tuple(DerivationRow(cover=(d.name,), laws=d.laws) for d in wanted(trace, picked))
