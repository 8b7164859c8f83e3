"""Derivations in a compilation: proved before they may be chosen, and reported where they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpopt.choose.candidate import Candidate
from tpopt.ir import Program
from tpopt.passes.derive.derive import MARK
from tpopt.report import DerivationRow
from tpopt.rewrite import Trace
from tpopt.verify.replay import replay

MOST_WORK = 1 << 27
"""Operations of checking one program; what takes more is not offered. It takes a few seconds."""


def proved(forms: Sequence[Program], trace: Trace) -> tuple[Program, ...]:
    """The forms, without those that hold a derivation which its checker refutes or cannot check in time.

    What runs is checked, the last program of each chain, with one seed; ``tpopt replay`` checks every step with two.
    """
    refuted: dict[str, str] = {}
    for derived in trace.derived:
        result = replace(derived.certificate, links=derived.certificate.links[-1:])
        (verdict,) = replay(result, most_work=MOST_WORK, seeds=(0,)).steps
        if not verdict.passed:
            refuted[derived.name] = verdict.reason
    for name, reason in refuted.items():
        with trace.within("derive"):
            trace.refused("Prove", reason, [name])
    if not refuted:
        return tuple(forms)
    return tuple(f for f in forms if MARK not in f.name)


def derivation_rows(trace: Trace, picked: Sequence[Candidate]) -> tuple[DerivationRow, ...]:
    """The derivations whose own tensors some picked candidate computes or passes through."""
    touched = {n for c in picked for n in (*c.covers, *(v.name for v in c.produces))}
    return tuple(DerivationRow(cover=(d.name,), laws=d.laws) for d in trace.derived if touched.intersection(d.makes))
