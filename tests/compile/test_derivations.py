"""What a compilation does with derivations that its verification turned down."""

from __future__ import annotations

from typing import Any

from tpopt._compile.derivations import without_derived
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.ir import Opaque, Tensor
from tpopt.ir.dtypes import DType
from tpopt.rewrite import Trace
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
