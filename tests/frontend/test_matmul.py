from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table, texts
from torch import randn

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 5)),
    ((2, 3), (3,)),
    ((2, 3), (3, 5)),
    ((7, 2, 3), (3,)),
    ((3,), (7, 3, 5)),
    ((7, 1, 2, 3), (11, 3, 5)),
    ((2, 3), (7, 3, 5)),
    ((1, 1, 2, 3), (5, 7, 3, 2)),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_matmul_of_every_rank_broadcasts_batches(left, right, dynamic):
    check_lowering(torch.matmul, randn(left), randn(right), dynamic=dynamic)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int64], ids=str)
def test_products_of_two_operands(dtype):
    def made(*shape):
        return (torch.randn(shape, dtype=torch.float64) * 4).to(dtype)

    pairs = {
        "mm": lambda a, b, v: torch.mm(a, b),
        "mv": lambda a, b, v: torch.mv(a, v),
        "dot": lambda a, b, v: torch.dot(a[0], v),
        "vdot": lambda a, b, v: torch.vdot(a[0], v),
        "outer": lambda a, b, v: torch.outer(v, b[0]),
        "ger": lambda a, b, v: torch.ger(b[0], v),
        "inner": lambda a, b, v: torch.inner(a, b.t().reshape(5, 1, 3)),
        "inner with a number": lambda a, b, v: torch.inner(v[0], b),
        "kron": lambda a, b, v: torch.kron(a, b.reshape(5, 1, 3)),
        "linear": lambda a, b, v: F.linear(a, b.t()),
        "linear vector": lambda a, b, v: F.linear(v, b.t()),
        "linear of one output": lambda a, b, v: F.linear(a, v),
        "bmm": lambda a, b, v: torch.bmm(a.expand(7, 2, 3), b.expand(7, 3, 5)),
    }
    check_table(pairs, made(2, 3), made(3, 5), made(3))


def test_a_linear_layer_with_bias_is_one_stage():
    batches = ({0: torch.export.Dim.AUTO}, None, None)
    traced = check_lowering(F.linear, randn(2, 3, 5), randn(7, 5), randn(7), dynamic=batches)
    assert texts(traced)[0].endswith("sum[k:5]{ args_0[i0,i1,k] * args_1[i2,k] } + args_2[i2]")


ADDED = {
    "addmm": lambda m, a, b, v: torch.addmm(m, a, b, beta=0.5, alpha=2),
    "addmm row": lambda m, a, b, v: torch.addmm(m[0], a, b),
    "addmv": lambda m, a, b, v: torch.addmv(m[:, 0], a, v, beta=3, alpha=0.5),
    "addr": lambda m, a, b, v: torch.addr(m, a[:, 0], b[0], beta=2, alpha=3),
    "baddbmm": lambda m, a, b, v: torch.baddbmm(m, a.expand(7, 2, 3), b.expand(7, 3, 5), alpha=0.25),
    "addbmm": lambda m, a, b, v: torch.addbmm(m, a.expand(7, 2, 3), b.expand(7, 3, 5), beta=0.5, alpha=2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_products_added_to_a_base(dtype):
    check_table(ADDED, *(randn(s).to(dtype) for s in ((2, 5), (2, 3), (3, 5), (3,))))


def test_a_zero_beta_ignores_the_base():
    base = torch.full((2, 1), float("nan"))
    check_lowering(lambda m, a, b: torch.addmm(m, a, b, beta=0), base, randn(2, 3), randn(3, 5))


def test_chains_decompose_in_the_cheapest_order():
    a, b, c = randn(2, 30), randn(30, 5), randn(5, 40)
    traced = check_lowering(lambda *m: torch.linalg.multi_dot(m), a, b, c)
    assert [s.outs[0].shape for s in traced.algebra.stages] == [(2, 5), (2, 40)]
    check_lowering(lambda *m: torch.chain_matmul(*m), a, b, c)
    check_lowering(torch.linalg.vecdot, a + 1j * a.cos(), a.sin() + 2j * a)
