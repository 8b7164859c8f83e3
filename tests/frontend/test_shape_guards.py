from __future__ import annotations

import pytest
import torch
from torch import randn

from tpopt.frontend.trace import trace
from tpopt.ir.index import evaluate

AUTO = torch.export.Dim.AUTO


def _admits(function, x):
    """Whether what was traced for ``x`` holds for other numbers of rows (and columns)."""

    class Model(torch.nn.Module):
        def forward(self, x):
            return function(x)

    traced = trace(Model(), (x,), dynamic_shapes=({0: AUTO, 1: AUTO},))
    (rows, columns), guard = traced.algebra.symbols, traced.guard

    def admitted(n, m):
        sizes = {rows.name: n, columns.name: m}
        return all(evaluate(b.low, sizes) <= evaluate(b.value, sizes) < evaluate(b.high, sizes) for b in guard.bounds)

    return admitted


@pytest.mark.parametrize(
    ("function", "admitted", "refused"),
    [
        (lambda x: x + 1 if x.shape[0] > x.shape[1] + 2 else x - 1, [(9, 4), (40, 37)], [(6, 4), (4, 9)]),
        (lambda x: x + 1 if x.shape[0] != 4 * x.shape[1] else x - 1, [(9, 4), (15, 4)], [(16, 4), (8, 2)]),
        (lambda x: x[: int(x.shape[0] * 0.5)], [(8, 4), (9, 7)], [(10, 4), (7, 4)]),
        (lambda x: x + 1 if x.shape[0] % 3 == 0 else x - 1, [(9, 4), (12, 4)], [(10, 4)]),
        (lambda x: x + 1 if max(x.shape[0], 6) > x.shape[1] else x - 1, [(9, 4), (7, 6)], [(7, 8), (5, 4)]),
    ],
)
def test_branches_on_extents_are_guarded(function, admitted, refused):
    admits = _admits(function, randn(9, 4))
    assert [admits(*sizes) for sizes in (*admitted, *refused)] == [True] * len(admitted) + [False] * len(refused)


def test_what_the_ranges_of_symbols_say_needs_no_guard():
    class Model(torch.nn.Module):
        def forward(self, x):
            return torch.softmax(x @ x.t(), -1) @ x

    assert trace(Model(), (randn(9, 4),), dynamic_shapes=({0: AUTO},)).guard.bounds == ()
