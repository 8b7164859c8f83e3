from __future__ import annotations

import pytest
import torch

import tpopt
from tpopt.ir import DType, Symbol, Tensor, guard, index
from tpopt.runtime.guards import InputGuard

N = Symbol("n", 2, None)
AUTO = torch.export.Dim.AUTO


def test_sizes_that_the_program_was_not_made_for_do_not_fit():
    required = guard((4, index(N) // 2, 5), (0, index(12) // (index(N) - 8), 20))
    inputs = InputGuard((Tensor("x", (index(N),), DType.F32),), torch.device("cpu"), required)
    assert [inputs.sizes([torch.empty(n)]) for n in (9, 8, 10)] == [{"n": 9}, None, None]


class Half(torch.nn.Module):
    def forward(self, x):
        return x[: int(x.shape[0] * 0.5)] * 2


@pytest.mark.parametrize("rows", [8, 9, 10, 21])
def test_what_export_specialised_is_compiled_again(rows):
    compiled = tpopt.compile(Half(), torch.randn(8, 3), dynamic_shapes=({0: AUTO},), choice="model", gate=False)
    x = torch.randn(rows, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), x[: rows // 2] * 2)
