from __future__ import annotations

import pytest

from tpopt.backend.library.contraction import Contraction, match_contraction, plain_axes
from tpopt.ir import Compute
from tpopt.ir.parse import parse_program

STAGE = "y: f32[5,7] = L[i:5,j:7] sum[k:3]{ x[i,k] * w[k,j] }"


def match(stage: str = STAGE) -> Contraction | str:
    header = "program p(x: f32[5,3], b: f32[7], n: f32[5,7])\nweight w: f32[3,7]\n"
    out = stage.partition(":")[0]
    (parsed,) = parse_program(f"{header}{stage}\nreturn {out}\n").stages
    assert isinstance(parsed, Compute)
    return match_contraction(parsed)


def test_a_sum_of_products_of_two_reads_is_a_contraction():
    found = match()
    assert isinstance(found, Contraction)
    assert (found.left.tensor.name, found.right.tensor.name, found.out.name) == ("x", "w", "y")
    assert [i.name for i in found.reduced] == ["k"]
    assert [[getattr(i, "name", None) for i in plain_axes(f) or ()] for f in (found.left, found.right)] == [
        ["i", "k"],
        ["k", "j"],
    ]
    assert found.bias is None
    assert found.swapped().left is found.right


@pytest.mark.parametrize("body", ["sum[k:3]{ x[i,k] * w[k,j] } + b[j]", "b[j] + sum[k:3]{ x[i,k] * w[k,j] }"])
def test_an_added_read_is_its_bias(body: str):
    found = match(f"y: f32[5,7] = L[i:5,j:7] {body}")
    assert isinstance(found, Contraction)
    assert found.bias is not None
    assert found.bias.tensor.name == "b"


NO_CONTRACTIONS = {
    "max[k:3]{ x[i,k] * w[k,j] }": "it is no sum",
    "sum[k:3]{ x[i,k] * w[k,j] } * 2.0": "it is no sum",
    "sum[k:3]{ x[i,k] }": "its body is no product of two factors",
    "sum[k:3]{ x[i,k] * w[k,j] * b[j] }": "its body is no product of two factors",
    "sum[k:3]{ exp(x[i,k]) * w[k,j] }": "a factor is no plain read of a tensor",
    "sum[k:3]{ x[i,k] * select(0 <= k < 2, w[k,j], 1.0) }": "a factor is no plain read of a tensor",
    "sum[k:3]{ select(0 <= i-j < 5, x[i,k] * w[k,j], 0.0) }": "a bound of its product concerns neither factor alone",
}


@pytest.mark.parametrize("body", NO_CONTRACTIONS)
def test_what_is_none_says_why(body: str):
    assert match(f"y: f32[5,7] = L[i:5,j:7] {body}") == NO_CONTRACTIONS[body]


def test_a_bound_goes_to_the_factors_whose_iterators_it_is_on():
    found = match("y: f32[5,7] = L[i:5,j:7] sum[k:3]{ select(0 <= i-k < 2, x[i,k] * w[k,j], 0.0) }")
    assert isinstance(found, Contraction)
    assert [len(f.bounds) for f in (found.left, found.right)] == [1, 0]
    assert plain_axes(found.left) is None


@pytest.mark.parametrize("read", ["x[i,2]", "x[i,-k+2]", "n[i,k]", "select(0 <= k < 2, x[i,k], 0.0)", "n[k,k]"])
def test_an_operand_read_in_another_way_is_not_plain(read: str):
    found = match(f"y: f32[5,7] = L[i:5,j:7] sum[k:3]{{ {read} * w[k,j] }}")
    assert isinstance(found, Contraction)
    assert plain_axes(found.left) is None
