from __future__ import annotations

import pytest
import torch

from tpopt.frontend import registry
from tpopt.frontend.coverage import MOST_WORK, Row, core_overloads, coverage
from tpopt.frontend.coverage.opinfo import recorded_calls
from tpopt.frontend.coverage.samples import SAMPLES
from tpopt.frontend.coverage.survey import Coverage
from tpopt.ir import Iter, apply, total, where


def row(**changes: object) -> Row:
    return Row(
        **{
            "overload": "aten.f.default",
            "core": True,
            "tried": 2,
            "algebra": 2,
            "passed": 2,
            "work": (1.0, 1.0),
            "reason": "",
            **changes,
        }
    )


def test_every_core_operator_that_can_be_called_has_a_sample():
    assert [name for name in core_overloads() if name not in SAMPLES] == ["aten.atan2.out", "aten.resize_.default"]


def test_a_lowered_operator_passes_and_an_opaque_one_says_why():
    found = coverage(only=["aten.relu.default", "aten.nonzero.default"])
    relu, nonzero = found.rows
    assert (relu.status, relu.passed, relu.sound) == ("algebra", relu.tried, True)
    assert relu.work == (0.5, 0.5)
    assert (nonzero.status, nonzero.algebra) == ("opaque", 0)
    assert nonzero.reason == "aten.nonzero.default has no lowering and no decomposition"


def test_an_operator_that_writes_into_its_arguments_is_opaque():
    (found,) = coverage(only=["aten.resize_.default"]).rows
    assert (found.status, found.reason) == ("opaque", "it writes into its arguments, and a traced graph is functional")


def test_a_wrong_lowering_fails(monkeypatch):
    table = {
        **registry.lowerings(),
        "aten.relu.default": lambda ctx, x: ctx.pointwise(lambda *i: apply("abs", x.at(i))),
    }
    monkeypatch.setattr("tpopt.frontend.translate.lowerings", lambda: table)
    (found,) = coverage(only=["aten.relu.default"]).rows
    assert not found.sound
    assert found.reason.startswith("wrong: ")


def test_a_quadratic_lowering_is_unsound(monkeypatch):
    def prefix(ctx, x, dim, dtype):
        k = Iter("k", x.shape[1])
        term = lambda i, j: total((k,), where(apply("le", x[i, k] * 0, x[i, j]), x[i, k], 0.0))  # noqa: E731
        return ctx.pointwise(term)

    monkeypatch.setattr(
        "tpopt.frontend.translate.lowerings", lambda: {**registry.lowerings(), "aten.cumsum.default": prefix}
    )
    (found,) = coverage(check=False, only=["aten.cumsum.default"]).rows
    assert found.work[1] > found.work[0] > MOST_WORK
    assert not found.sound


def test_any_of_several_equal_elements_may_be_named():
    assert coverage(only=["aten.topk.default", "aten.sort.default"]).summary()["unsound"] == []


def test_numbers_that_operators_yield_are_checked():
    found = coverage(only=["aten.sym_size.int", "aten._local_scalar_dense.default"])
    assert [(r.status, r.sound) for r in found.rows] == [("algebra", True)] * 2


def test_recording_keeps_arguments_from_before_the_call():
    calls = recorded_calls(["aten.add.Tensor"], most=1, namesakes=True)["aten.add.Tensor"]
    assert sorted(str(args[0].dtype) for args, _ in calls) == [
        "torch.bool",
        "torch.complex64",
        "torch.float32",
        "torch.int64",
    ]


def test_the_table_names_the_operator_the_counts_and_the_reason():
    rows = (
        row(),
        row(overload="aten.g.default", core=False, algebra=0, passed=0, work=(), reason="it depends on data"),
    )
    lines = str(Coverage(rows, checked=True)).splitlines()
    assert lines[0].split() == ["status", "algebra", "passed", "work", "operator"]
    assert lines[1].split() == ["algebra", "2/2", "2/2", "1.00", "1.00", "aten.f.default"]
    assert lines[2].split(maxsplit=4) == ["opaque", "0/2", "0/0", "aten.g.default", "it depends on data"]
    assert lines[3].startswith(
        f"1 of 1 core ATen overloads are algebra (torch {torch.__version__}); 1 others have a lowering"
    )


def test_the_document_has_the_summary_and_every_row():
    document = Coverage((row(), row(passed=1), row(work=(1.0, 3.0))), checked=True).to_dict()
    assert {k: document[k] for k in ("core", "core_algebra", "core_opaque", "unsound")} == {
        "core": 3, "core_algebra": 3, "core_opaque": 0, "unsound": ["aten.f.default"] * 2,
    }  # fmt: skip
    assert document["rows"][0] == {
        "overload": "aten.f.default", "core": True, "tried": 2, "algebra": 2, "passed": 2, "work": [1.0, 1.0], "reason": "",
        "status": "algebra",
    }  # fmt: skip


@pytest.mark.acceptance
def test_at_least_160_core_operators_are_algebra_and_all_agree_with_torch():
    found = coverage()
    assert found.summary()["unsound"] == []
    assert [r.overload for r in found.core if r.status == "opaque"] == [
        "aten._embedding_bag.default", "aten.atan2.out", "aten.nonzero.default", "aten.rand.default", "aten.randn.default",
        "aten.randperm.default", "aten.resize_.default",
    ]  # fmt: skip
    assert len(found.core) - 7 >= 160
