from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, texts
from torch import randn

EQUATIONS = [
    ("ij,jk", (2, 3), (3, 5)),
    (" ij , jk -> k ", (2, 3), (3, 5)),
    ("ba,cb", (2, 3), (5, 2)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("a...->...", (2, 3, 5)),
    ("...", (2, 3)),
    ("...ij,...jk->...ik", (7, 1, 2, 3), (11, 3, 5)),
    ("b...i,b...j->b...ij", (2, 3, 5), (2, 3, 7)),
    ("i,j,k->kij", (2,), (3,), (5,)),
    ("abc,cd,bd->a", (2, 3, 5), (5, 7), (3, 7)),
    ("ij,kl->ik", (2, 3), (5, 7)),
    ("ijj,jk->ik", (2, 3, 3), (3, 5)),
    ("bhid,bhjd->bhij", (2, 3, 5, 7), (2, 3, 11, 7)),
    ("ab,ab->", (2, 3), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 5)),
    ("uvwi,ekc,bci,bcvk,bcw->bcue", (3, 3, 3, 4), (2, 5, 6), (7, 6, 4), (7, 6, 3, 5), (7, 6, 3)),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("case", EQUATIONS, ids=lambda c: c[0])
def test_einsum(case, dynamic):
    equation, *shapes = case
    check_lowering(lambda *operands: torch.einsum(equation, *operands), *map(randn, shapes), dynamic=dynamic)


def _einsum(equation, *shapes):
    return texts(check_lowering(lambda *operands: torch.einsum(equation, *operands), *map(randn, shapes)))


def test_two_operands_are_one_stage():
    (product,) = _einsum("bhid,bhjd->bhij", (2, 3, 5, 7), (2, 3, 11, 7))
    assert product.endswith("sum[k0:7]{ args_0[i0,i1,i2,k0] * args_1[i0,i1,i3,k0] }")


def test_what_one_operand_alone_has_is_summed_before_the_product():
    assert _einsum("ij,kl->ik", (2, 3), (5, 7)) == [
        "L[i0:2] sum[k0:3]{ args_0[i0,k0] }",
        "L[i0:5] sum[k0:7]{ args_1[i0,k0] }",
        "L[i0:2,i1:5] einsum.t[i0] * einsum.t_1[i1]",
    ]


def test_more_operands_are_contracted_in_pairs():
    assert [t.count("sum[k0:") for t in _einsum("ab,bc,cd->ad", (2, 3), (3, 5), (5, 7))] == [1, 1]


@pytest.mark.parametrize("dims", [1, 2, ([0, 2], [1, 0]), ([], [])], ids=str)
def test_tensordot(dims):
    left, right = {1: ((2, 3), (3, 7)), 2: ((2, 3, 5), (3, 5, 7))}.get(
        str(dims).isdigit() and dims, ((2, 3, 5), (5, 2, 7))
    )
    check_lowering(lambda a, b: torch.tensordot(a, b, dims=dims), randn(left), randn(right), dynamic=True)


def test_bilinear_meets_the_weight_with_its_first_argument():
    traced = check_lowering(F.bilinear, randn(11, 2, 3), randn(11, 2, 5), randn(7, 3, 5), randn(7), dynamic=True)
    assert [len(s.loops) for s in traced.algebra.stages] == [4, 3]
    check_lowering(F.bilinear, randn(11, 3), randn(11, 5), randn(7, 3, 5))


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 2.0, 3.0, float("inf")])
def test_distances(p):
    check_lowering(lambda a, b: torch.cdist(a, b, p), randn(7, 1, 5, 3), randn(2, 4, 3), dynamic=True)
    check_lowering(lambda a: F.pdist(a, p), randn(5, 3))


def test_distances_of_many_rows_and_of_one():
    check_lowering(torch.cdist, randn(30, 3), randn(40, 3))
    check_lowering(F.pdist, randn(1, 3))
    check_lowering(lambda a, b: torch.ops.aten._cdist_forward(a, b, 1.0, None), randn(5, 3), randn(4, 3))
    check_lowering(F.cosine_similarity, randn(5, 3), randn(5, 3))
    check_lowering(F.pairwise_distance, randn(5, 3), randn(5, 3))
