from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.kernels import Offer, offer
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.backend.library.epilogue import ACTIVATIONS
from tpopt.choose.candidate import Candidate, Value
from tpopt.choose.pricing import planned
from tpopt.ir import Symbol, index
from tpopt.ir.walk import map_stage_tensors

F = nn.functional
SIZES = {"a": 3, "b": 5, "k": 7, "n": 11, "m": 13}


def rand(axes: str, seed: int = 0) -> torch.Tensor:
    return torch.randn([SIZES[a] for a in axes], generator=torch.Generator().manual_seed(seed))


class Weighted(nn.Module):
    """A weight with the given axes."""

    def __init__(self, axes: str) -> None:
        super().__init__()
        self.w = nn.Parameter(rand(axes, 1))


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5, check_stride=False)


def only(made: Offer, out: str | None = None) -> Candidate:
    wanted = out or made.cleaned.outputs[0].name
    (found,) = (c for c in made.named("onednn") if c.produces == (Value(wanted),))
    return found


EINSUMS = [
    *("k,kn->n", "k,nk->n", "k,k->", "ak,kn->an", "ak,nk->an", "ka,kn->an", "ak,nk->na", "ka,nk->na"),
    *("abk,kn->abn", "abk,nk->nab", "akb,kn->abn", "kab,nk->anb", "abk,k->ab", "abk,k->ba"),
    *("abk,knm->abnm", "abk,mnk->abnm", "abk,nkm->nabm", "abk,bkn->an", "abk,nbk->an", "akb,nbk->na", "abk,kbnm->mna"),
]


@pytest.mark.parametrize("equation", EINSUMS)
def test_every_order_of_the_axes_is_one_product(equation: str):
    x, w = equation.partition("->")[0].split(",")
    made = offer(lambda m, x: torch.einsum(equation, x, m.w), rand(x), parts=(Weighted(w),))
    close(made.run(only(made)), made.expected())


WITH_MKL = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch was built without MKL")


@WITH_MKL
@pytest.mark.parametrize("equation", EINSUMS)
def test_mkl_has_the_same_products(equation: str):
    x, w = equation.partition("->")[0].split(",")
    made = offer(lambda m, x: torch.einsum(equation, x, m.w), rand(x), parts=(Weighted(w),))
    (candidate,) = made.named("mkl")
    close(made.run(candidate), made.expected())


@WITH_MKL
@pytest.mark.parametrize("axes", ["k", "ak", "abk", "mabk"])
def test_mkl_adds_a_bias_and_leaves_activations_alone(axes: str):
    made = offer(lambda m, x: torch.relu(m(x)), rand(axes), parts=(nn.Linear(7, 11),))
    (candidate,) = made.named("mkl")
    close(torch.relu(made.run(candidate)), made.expected())


@pytest.mark.parametrize("axes", ["k", "ak", "abk", "mabk"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_of_any_rank_with_and_without_bias(axes: str, bias: bool):
    made = offer(lambda m, x: m(x), rand(axes), parts=(nn.Linear(7, 11, bias=bias),))
    candidate = only(made)
    assert [t.name for t in candidate.stage.reads[1:]] == ["parts.0.weight", "parts.0.bias"][: 1 + bias]
    close(made.run(candidate), made.expected())


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a not in ("", "hardsigmoid")])
def test_an_activation_is_fused(activation: str):
    known = ACTIVATIONS[activation]
    function = getattr(torch.ops.aten, known.target.split(".")[1])
    gelu = known.target == "aten.gelu.default"

    def fused(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return function(m(x), approximate=known.arguments[0]) if gelu else function(m(x), *known.arguments)

    made = offer(fused, rand("abk"), parts=(nn.Linear(7, 11),))
    candidate = only(made)
    assert dict(candidate.stage.parameters)["activation"] == activation
    close(made.run(candidate), made.expected())


def test_an_added_tensor_is_fused_and_not_overwritten():
    y = rand("abn", 2)
    made = offer(lambda m, x, y: y + m(x), rand("abk"), y, parts=(nn.Linear(7, 11),))
    candidate, before = only(made), y.clone()
    assert candidate.needs == (Value("args_0"), Value("args_1"))
    close(made.run(candidate), made.expected())
    assert torch.equal(y, before)


REFUSED: dict[str, tuple[Any, tuple[torch.Tensor, ...], nn.Module]] = {
    "oneDNN's packed product is wired for f32, this is f64": (
        lambda m, x: m(x), (rand("ak").double(),), nn.Linear(7, 11).double(),
    ),
    "oneDNN's product has no hardsigmoid epilogue": (lambda m, x: F.hardsigmoid(m(x)), (rand("ak"),), nn.Linear(7, 11)),
    "oneDNN's product adds a tensor only in its own layout and without an activation": (
        lambda m, x, y: F.relu(m(x) + y), (rand("ak"), rand("an")), nn.Linear(7, 11),
    ),
    "a loop reads both operands: a batched product": (
        lambda m, x: torch.einsum("ak,ak->a", x, m.w), (rand("ak"),), Weighted("ak"),
    ),
    "an operand is not read whole, axis by axis": (
        lambda m, x: torch.einsum("kk,kn->n", x, m.w), (torch.randn(7, 7),), Weighted("kn"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_kernel_cannot_do_is_refused_with_the_reason(reason: str):
    function, args, layer = REFUSED[reason]
    assert reason in offer(function, *args, parts=(layer,)).reasons()


def test_an_added_tensor_needs_one_column_axis():
    """The product comes out flat: [3, 55] and [3, 5, 11] do not add."""
    made = offer(
        lambda m, x, y: torch.einsum("ak,kbn->abn", x, m.w) + y, rand("ak"), rand("abn"), parts=(Weighted("kbn"),)
    )
    assert [c.produces[0].name for c in made.named("onednn")] == ["einsum"]
    assert "oneDNN's product adds a tensor only in its own layout and without an activation" in made.reasons()


def test_a_bias_that_is_a_part_of_a_weight_is_refused():
    def half(m: nn.Module, longer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, m.weight, longer.bias[:11])

    parts = (nn.Linear(7, 11), nn.Linear(7, 22))
    made = offer(half, rand("ak"), parts=parts, pipeline="inline-views")
    assert made.reasons() == ["the added term is no weight over the product's columns"]


def test_a_bias_over_some_of_the_columns_is_spread_over_the_others():
    def function(m: nn.Module, b: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ak,kbn->abn", x, m.w) + b.w[None, None]

    made = offer(function, rand("ak"), parts=(Weighted("kbn"), Weighted("n")))
    candidate = only(made)
    assert dict(candidate.stage.parameters)["bias"] == (1,)
    close(made.run(candidate), made.expected())


def test_a_weight_is_packed_once_for_all_dynamic_rows():
    made = offer(lambda m, x: m(x), rand("abk"), parts=(nn.Linear(7, 11),))
    static, binder, rows = planned(only(made)), Binder(made.weights()), index(Symbol("s0", 1, 64))
    dynamic = map_stage_tensors(static, lambda t: replace(t, shape=(rows, *t.shape[1:])) if t.name == "args_0" else t)
    packed = [binder.bind(dynamic, {"s0": n}).args[1] for n in (1, 2, 7)]
    assert packed[0] is packed[1] is packed[2]
    assert binder.packed_bytes >= 4 * 7 * 11
