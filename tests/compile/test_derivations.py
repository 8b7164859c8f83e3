"""What a compilation does with derivations that its verification turned down."""

from __future__ import annotations

from typing import Any

import pytest

from tpopt._compile import derivations
from tpopt._compile.derivations import Prover, without_derived
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.ir import Opaque, Tensor
from tpopt.ir.dtypes import DType
from tpopt.rewrite import Trace
from tpopt.rewrite.certificate import Certificate, Link
from tpopt.rewrite.trace import Derived


def candidate(name: str, *makes: str) -> Candidate:
    outs = tuple(Tensor(m, (4,), DType.F32) for m in makes)
    return Candidate(name, "generated", Opaque(outs, "aten.t.default", ()), (), tuple(Value(m) for m in makes), name)


def derived(name: str, *makes: str) -> Derived:
    unread: Any = None  # leaving a derivation out looks at what it makes, not at its proof
    return Derived(name, ("DistributeProductOverSum",), makes, unread)


def test_the_derivations_that_a_plan_uses_are_left_out_and_no_others():
    plain, distributed, other = candidate("plain", "y"), candidate("distributed", "y", "y.p"), candidate("other", "z.q")
    trace = Trace()
    trace.derived.extend([derived("y", "y.p"), derived("z", "z.q")])
    found = Candidates([plain, distributed, other])
    left = without_derived(found, trace, [distributed])
    assert left is not None
    assert left.admitted == [plain, other]
    assert [(r.name, "failed its verification" in r.reason) for r in left.refused] == [("distributed", True)]
    assert found.admitted == [plain, distributed, other]


def test_a_plan_that_derives_nothing_has_nothing_to_leave_out():
    trace = Trace()
    trace.derived.append(derived("y", "y.p"))
    assert without_derived(Candidates([candidate("plain", "y")]), trace, [candidate("plain", "y")]) is None


GIVEN = "program p({x}: f32[4])\n{y}: f32[4] = L[i:4] {x}[i] + {x}[i]\nreturn {y}"
MADE = "program p({x}: f32[4])\n{y}.p: f32[4] = L[i:4] {factor} * {x}[i]\n{y}: f32[4] = L[i:4] {y}.p[i]\nreturn {y}"


def doubled(x: str, y: str, factor: float) -> Derived:
    """A sum of a tensor and itself as a product with a factor, which should be two."""
    link = Link("Law", "exact", "", MADE.format(x=x, y=y, factor=factor))
    certificate = Certificate(y, GIVEN.format(x=x, y=y), (link,), {})
    return Derived(y, ("Law",), (f"{y}.p",), certificate)


def test_one_derivation_that_is_refuted_costs_itself_alone():
    trace = Trace()
    trace.derived.extend([doubled("x", "y", 2.0), doubled("y", "z", 3.0)])
    right, wrong, plain = candidate("right", "y", "y.p"), candidate("wrong", "z", "z.p"), candidate("plain", "z")
    found, prover = Candidates([right, wrong, plain]), Prover(trace)
    assert not prover.admits([right, wrong], found)
    assert found.admitted == [right, plain]
    assert [(r.name, r.reason) for r in found.refused] == [("wrong", derivations.UNPROVED)]
    assert prover.admits([right, plain], found)
    assert not prover.all_proved([wrong])
    assert [(e.kind, e.at, "z[0] differs" in e.detail) for e in trace.events] == [("refused", ("z",), True)]


def test_claims_that_are_equal_but_for_names_are_checked_once(monkeypatch: pytest.MonkeyPatch):
    trace, checked = Trace(), list[str]()
    replay = derivations.replay
    monkeypatch.setattr(derivations, "replay", lambda c, **how: (checked.append(c.region), replay(c, **how))[1])
    trace.derived.extend([doubled("x", "y", 2.0), doubled("y", "z", 2.0), doubled("z", "v", 3.0)])
    prover = Prover(trace)
    assert prover.all_proved([candidate("one", "y", "y.p"), candidate("other", "z", "z.p")])
    assert not prover.all_proved([candidate("wrong", "v", "v.p")])
    assert checked == ["y", "v"]
