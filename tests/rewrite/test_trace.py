"""The trace: rows for the report, refusals counted by reason, attribution to passes."""

from __future__ import annotations

from tpopt.rewrite import Numerics, Trace


def test_rows_count_by_pass_and_reason():
    trace = Trace()
    with trace.within("fold"):
        trace.applied("Law", ["a"], "because", Numerics.ROUNDING)
        trace.refused("Law", "too large", ["b"])
        trace.refused("Law", "too large", ["c"])
        trace.refused("Law", "no weight", ["d"])
    with trace.within("idle"):
        pass
    refused = [{"reason": "too large", "count": 2}, {"reason": "no weight", "count": 1}]
    assert trace.to_dict() == [
        {"name": "fold", "applied": 1, "refused": refused},
        {"name": "idle", "applied": 0, "refused": []},
    ]


def test_a_refusal_met_again_counts_once():
    trace = Trace()
    with trace.within("fold"):
        trace.refused("Law", "too large", ["b"])
        trace.refused("Law", "too large", ["b"])
    assert trace.to_dict()[0]["refused"] == [{"reason": "too large", "count": 1}]


def test_a_pass_inside_a_pass_gives_the_name_back():
    trace = Trace()
    with trace.within("outer"):
        with trace.within("inner"):
            trace.applied("A")
        trace.applied("B")
    assert [(e.owner, e.what) for e in trace.events] == [("inner", "A"), ("outer", "B")]


def test_the_largest_label_of_what_was_applied():
    trace = Trace()
    assert trace.numerics is Numerics.EXACT
    trace.applied("A", numerics=Numerics.REASSOCIATING)
    trace.applied("B", numerics=Numerics.ROUNDING)
    assert trace.numerics is Numerics.REASSOCIATING


def test_events_by_tensor():
    trace = Trace()
    trace.applied("A", ["x", "y"])
    trace.refused("B", "why", ["y"])
    assert [e.what for e in trace.concerning("y")] == ["A", "B"]
    assert [e.what for e in trace.concerning("x")] == ["A"]


def test_labels_are_ordered_by_freedom():
    labels = ["exact", "rounding", "reassociating", "conditioning", "approximate"]
    assert [str(n) for n in sorted(Numerics)] == labels
