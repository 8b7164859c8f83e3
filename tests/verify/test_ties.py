"""Indices are compared by what they point at."""

from __future__ import annotations

import pytest
import torch

from tpopt.ir.parse import parse_program
from tpopt.verify import check
from tpopt.verify.ties import tied

ARGMAX = "program p(x: f32[2,3])\nb: i64[2] = L[i:2] argmax[j:3].1{ x[i,j] * 2.0, j }\n"
NEAR = torch.tensor([[1.0, 1.0 + 2**-23, 0.5], [3.0, 1.0, 2.0]])


def test_an_argmax_may_pick_either_of_two_near_values():
    program = parse_program(ARGMAX + "return b")
    assert tied(program, "b", [NEAR], torch.tensor([0, 0]), 2e-6).tolist() == [True, True]  # type: ignore[union-attr]
    assert tied(program, "b", [NEAR], torch.tensor([2, 2]), 2e-6).tolist() == [False, False]  # type: ignore[union-attr]
    assert tied(program, "b", [NEAR], torch.tensor([0, 0]), 1e-9).tolist() == [False, True]  # type: ignore[union-attr]


def test_an_argmin_likewise():
    program = parse_program("program p(x: f32[2,3])\nb: i64[2] = L[i:2] argmin[j:3].1{ x[i,j], j }\nreturn b")
    assert tied(program, "b", [-NEAR], torch.tensor([0, 2]), 2e-6).tolist() == [True, False]  # type: ignore[union-attr]


def test_axes_of_extent_one_may_lie_between():
    program = parse_program(ARGMAX + "c: i64[2,1] = L[i:2,u:1] b[i]\nreturn c")
    assert tied(program, "c", [NEAR], torch.tensor([[0], [2]]), 2e-6).tolist() == [[True], [False]]  # type: ignore[union-attr]


def test_what_is_no_index_has_no_ties():
    program = parse_program(ARGMAX + "c: i64[2] = L[i:2] b[i] * 2\nreturn c")
    assert tied(program, "c", [NEAR], torch.tensor([0, 0]), 2e-6) is None


SORT = "program p(x: f32[4])\nv: f32[4], i: i64[4] = sort(x, axis=0, descending=true, stable=true)\nreturn i"
TOPK = "program p(x: f32[4])\nv: f32[2], i: i64[2] = topk(x, k=2, axis=0, largest=true, sorted={})\nreturn i"
VALUES = torch.tensor([1.0, 3.0 + 2**-22, 3.0, 2.0])


@pytest.mark.parametrize(
    ("text", "chosen", "expected"),
    [
        (SORT, [2, 1, 3, 0], [True] * 4),
        (SORT, [1, 2, 0, 3], [True, True, False, False]),
        (SORT, [1, 1, 3, 0], None),
        (TOPK.format("true"), [2, 1], [True, True]),
        (TOPK.format("true"), [1, 3], [True, False]),
        (TOPK.format("false"), [3, 1], [True, False]),
    ],
)
def test_sorted_positions(text: str, chosen: list[int], expected: list[bool] | None):
    found = tied(parse_program(text), "i", [VALUES], torch.tensor(chosen), 2e-6)
    assert (None if found is None else found.tolist()) == expected


def test_a_flipped_tie_is_admitted_and_explained():
    program = parse_program(ARGMAX + "return b")
    flipped = lambda x: torch.where((x[:, 0] - x[:, 1]).abs() <= 1e-6 * x[:, 1].abs(), 0, x.argmax(1))  # noqa: E731
    result = check(lambda x: (2 * x).argmax(1), flipped, program, example_inputs=[NEAR])
    assert result.passed
    assert result.rows[0].note == "1 indices point at values that tie with the reference's"


def test_a_decision_that_rounding_already_turns_is_admitted_and_explained():
    program = parse_program("program p(x: f32[2])\nb: bool[2] = L[i:2] x[i] * x[i] * x[i] > 1.0\nreturn b")
    given = torch.tensor([1.0 + 2**-30, 5.0])
    result = check(lambda x: x * x * x > 1, lambda x: x * x * x > 1, program, example_inputs=[given])
    assert result.passed
