from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tpopt.frontend import registry
from tpopt.frontend.coverage import MOST_GROWTH, MOST_WORK, Coverage, Row, core_overloads, coverage
from tpopt.frontend.coverage.calls import call
from tpopt.frontend.coverage.comparison import failure, opaque_calls, traced_call
from tpopt.frontend.coverage.effort import growth
from tpopt.frontend.coverage.opinfo import recorded_calls
from tpopt.frontend.coverage.others import OTHERS
from tpopt.frontend.coverage.samples import SAMPLES
from tpopt.ir import Iter, apply, const, total, where
from tpopt.ir.aten import resolve


def row(**changes: object) -> Row:
    plain = {"overload": "aten.f.default", "core": True, "tried": 2, "algebra": 2, "passed": 2, "work": (1.0, 1.0)}
    return Row(**{**plain, **changes})


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch):
    """``lowered("aten.relu.default", f)`` puts another lowering in the place of an operator's own."""

    def replace(name, function):
        table = {**registry.lowerings(), name: function}
        monkeypatch.setattr("tpopt.frontend.translate.lowerings", lambda: table)

    return replace


def test_every_core_operator_has_a_sample_of_its_own():
    assert [name for name in core_overloads() if name not in SAMPLES] == []


def test_samples_of_others_are_of_lowered_operators_beyond_the_core():
    assert [name for name in OTHERS if name in core_overloads() or name not in registry.lowerings()] == []


def test_every_lowering_is_of_an_operator_that_torch_has():
    assert [name for name in registry.lowerings() if resolve(name) is None] == []


def test_a_lowered_operator_passes_and_an_opaque_one_says_why():
    relu, nonzero = coverage(only=["aten.relu.default", "aten.nonzero.default"]).rows
    assert (relu.status, relu.passed, relu.defect) == ("algebra", relu.tried, "")
    assert (relu.work, relu.growth) == ((0.5, 0.5), 0.0)
    assert (nonzero.status, nonzero.algebra) == ("opaque", 0)
    assert nonzero.reason == "aten.nonzero.default has no lowering and no decomposition"


def test_an_operator_of_which_only_degenerate_samples_are_algebra_is_opaque():
    (found,) = coverage(only=["aten.resize_.default"]).rows
    assert found.passed == found.algebra > 0
    assert (found.status, found.work) == ("opaque", ())
    assert found.reason.startswith("torch.export refused Called")


def test_what_an_operator_overwrites_is_compared(lowered):
    assert coverage(only=["aten.atan2.out"]).rows[0].passed == 2
    lowered("aten.atan2.default", lambda ctx, x, _: ctx.pointwise(lambda *i: x.at(i)))
    assert coverage(only=["aten.atan2.out"]).wrong == ("aten.atan2.out",)


def test_a_wrong_lowering_fails(lowered):
    lowered("aten.relu.default", lambda ctx, x: ctx.pointwise(lambda *i: apply("abs", x.at(i))))
    found = coverage(only=["aten.relu.default"])
    assert found.wrong == ("aten.relu.default",)
    assert found.rows[0].defect.startswith("wrong: ")
    assert found.summary()["core_algebra"] == 0


def test_integers_agree_to_the_last_bit(lowered):
    x = torch.tensor([2**40, 3])
    assert failure("aten.neg.default", call(x), traced_call("aten.neg.default", call(x))) == ""
    lowered("aten.neg.default", lambda ctx, x: ctx.pointwise(lambda *i: apply("sub", 1, x.at(i))))
    assert failure("aten.neg.default", call(x), traced_call("aten.neg.default", call(x))) == "2 of 2 elements differ"


def test_any_of_several_equal_elements_may_be_named_but_each_once(lowered):
    equal = call(torch.zeros(4))
    assert failure("aten.sort.default", equal, traced_call("aten.sort.default", equal)) == ""

    def first(ctx, x, *_):
        return x, ctx.compute(x.shape, lambda i: const(0, ctx.outs[1].dtype))

    lowered("aten.sort.default", first)
    traced = traced_call("aten.sort.default", equal)
    assert failure("aten.sort.default", equal, traced) == "it names an element twice"


def test_values_of_ties_are_no_positions():
    assert coverage(only=["aten.median.default"]).wrong == ()


def prefix(ctx, x, dim, dtype):
    k = Iter("k", x.shape[1])
    return ctx.pointwise(lambda i, j: total((k,), where(apply("le", x[i, k] * 0, x[i, j]), x[i, k], 0.0)))


def copies(ctx, x, _dims):
    each = ctx.compute([*x.shape, x.shape[0]], lambda i, j, _: x[i, j])
    return ctx.pointwise(lambda i, j: each[x.shape[0] - 1 - i, x.shape[1] - 1 - j, 0])


@pytest.mark.parametrize(("name", "quadratic"), [("aten.cumsum.default", prefix), ("aten.flip.default", copies)])
def test_a_quadratic_lowering_does_too_much_work(name, quadratic, lowered):
    lowered(name, quadratic)
    found = coverage(check=False, only=[name])
    (work,) = [r.work for r in found.rows]
    assert work[1] > 3 * work[0] > MOST_WORK
    assert found.excessive == (name,)


@pytest.mark.parametrize(
    ("changes", "excess"),
    [
        ({"work": (2.0, 2.0), "growth": 0.25}, ""),
        ({"work": (1.0, 2.001)}, "2.00 times ATen's work"),
        ({"work": (2.01, 1.0)}, "2.01 times ATen's work"),
        ({"growth": 0.32}, "work grows by 0.32 in the exponent faster than ATen's"),
        ({"work": ()}, ""),
    ],
)
def test_work_is_bounded_at_both_sizes_and_in_its_growth(changes, excess):
    assert row(**changes).excess == excess


@pytest.mark.parametrize(
    ("ratios", "exponent"), [((0.1, 0.4), 1), ((0.5, 0.5), 0), ((2.0, 0.5), -1), ((0.0, 0.0), 0), ((3.58, 5.58), 0.32)]
)
def test_growth_is_an_exponent_of_the_size(ratios, exponent):
    assert growth(ratios) == pytest.approx(exponent, abs=0.001)
    assert MOST_GROWTH < 0.32  # one more logarithm, from 12 to 48


def test_an_expression_that_is_longer_at_a_larger_size_shows_in_the_growth(lowered):
    def unrolled(ctx, x):
        return ctx.pointwise(lambda i, j: apply("add", *(apply("max", x[i, k], x[i, j]) for k in range(x.shape[1]))))

    lowered("aten.relu.default", unrolled)
    (found,) = coverage(check=False, only=["aten.relu.default"]).rows
    assert found.work == (0.5, 0.5)
    assert 0.9 < found.growth < 1.2


def test_an_opaque_call_is_found_wherever_it_stands():
    traced = traced_call("aten.nonzero.default", call(torch.ones(2)))
    assert [s.target for s in opaque_calls(traced.algebra.stages)] == ["aten.nonzero.default"]


def test_numbers_that_operators_yield_are_checked():
    found = coverage(only=["aten.sym_size.int", "aten._local_scalar_dense.default"])
    assert [(r.status, r.defect, r.passed > 0) for r in found.rows] == [("algebra", "", True)] * 2


def test_recording_keeps_arguments_from_before_the_call():
    calls = recorded_calls(["aten.add.Tensor"], most=1, namesakes=True)["aten.add.Tensor"]
    assert sorted(str(args[0].dtype) for args, _ in calls) == [
        "torch.bool",
        "torch.complex64",
        "torch.float32",
        "torch.int64",
    ]


def test_recorded_calls_differ_in_more_than_their_values():
    calls = recorded_calls(["aten.sum.dim_IntList"], most=5, namesakes=True)["aten.sum.dim_IntList"]
    forms = [(args[0].dtype, args[0].shape, str(args[1:]), str(kwargs)) for args, kwargs in calls]
    assert len(forms) == len(set(forms)) > 10


def test_operators_that_torch_takes_apart_are_recorded_from_exported_graphs():
    calls = recorded_calls(["aten.layer_norm.default"], namesakes=True)["aten.layer_norm.default"]
    assert [args[0].shape[-len(args[1]) :] == tuple(args[1]) for args, _ in calls] == [True, True]


def test_the_table_names_the_operator_the_counts_and_the_reason():
    rows = (
        row(),
        row(overload="aten.g.default", core=False, algebra=0, passed=0, work=(), reason="it depends on data"),
        row(overload="aten.h.default", core=False, tried=0, algebra=0, passed=0, work=()),
        row(overload="aten.i.default", work=(1.0, 3.0)),
    )
    lines = str(Coverage(rows, checked=True)).splitlines()
    assert lines[0].split() == ["status", "algebra", "passed", "work", "operator"]
    assert lines[1].split() == ["algebra", "2/2", "2/2", "1.00", "1.00", "aten.f.default"]
    assert lines[2].split(maxsplit=4) == ["opaque", "0/2", "0/0", "aten.g.default", "it depends on data"]
    assert lines[3].split(maxsplit=6)[5:] == ["aten.i.default", "3.00 times ATen's work"]
    assert lines[4].startswith(f"1 of 2 core ATen overloads are algebra (torch {torch.__version__}); 2 others have a")
    assert lines[4].endswith(" lowering, 1 of them without samples")
    assert lines[5:] == ["too much work: aten.i.default"]


def test_the_document_has_the_summary_and_every_row():
    rows = (row(), row(passed=1, failure="it differs"), row(work=(1.0, 3.0)), row(core=False, work=()))
    document = Coverage(rows, checked=True).to_dict()
    counts = {k: v for k, v in document.items() if k not in ("rows", "torch")}
    assert counts == {
        "checked": True, "core": 3, "core_algebra": 1, "core_opaque": 0, "other_algebra": 1, "other_opaque": 0,
        "other_untried": 0, "wrong": ["aten.f.default"], "excessive": ["aten.f.default"],
    }  # fmt: skip
    assert document["rows"][1] == {
        "overload": "aten.f.default", "core": True, "tried": 2, "algebra": 2, "passed": 1, "work": [1.0, 1.0],
        "reason": "", "failure": "it differs", "growth": 0.0, "status": "algebra", "defect": "wrong: it differs",
    }  # fmt: skip


def without_algebra(rows: tuple[Row, ...]) -> Iterator[str]:
    yield "opaque:"
    yield from (f"  {r.overload}: {r.reason}" for r in rows if r.status == "opaque")
    yield "for some samples:"
    yield from (f"  {r.overload}: {r.reason}" for r in rows if r.status == "algebra" and r.algebra < r.tried)


@pytest.mark.acceptance
def test_at_least_160_core_operators_are_algebra_and_all_agree_with_torch(golden):
    found = coverage()
    assert (found.wrong, found.excessive) == ((), ())
    algebra = [r for r in found.core if r.status == "algebra"]
    assert len(algebra) == found.summary()["core_algebra"] >= 160
    assert [r.overload for r in algebra if r.passed < 2 or len(r.work) < 2] == []  # its own samples at the least
    assert sum(r.tried > 2 for r in algebra) >= 150  # torch ships samples for nearly all
    golden("coverage.txt", "\n".join(without_algebra(found.rows)) + "\n")
