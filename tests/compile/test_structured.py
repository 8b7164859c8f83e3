"""The suite of structured models: each is what its paper says, and compiles to the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
import torch
from derivations.products import gaunt_tensor
from structured import ZOO
from structured.attention import axial_kernel, galerkin_attention, kronecker_attention, transform_once
from structured.equivariant import (
    gaunt_product,
    orthogonal_layer,
    permutation_layer,
    so2_convolution,
    tensornet_product,
)
from structured.layers import bilinear_mlp, hyperbolic_linear, tensor_train_layer
from torch import Tensor, nn

import tpopt

SMALL: Final[Mapping[str, Mapping[str, Any]]] = {
    "gaunt_product": {"degree": 2, "nodes": 2, "channels": 3},
    "so2_convolution": {"degree": 2, "order": 1, "edges": 5, "channels": 3},
    "orthogonal_layer": {"n": 3, "batch": 2, "channels": 2},
    "permutation_layer": {"n": 5, "batch": 2, "channels": 3},
    "tensornet_product": {"atoms": 4, "channels": 3},
    "kronecker_attention": {"batch": 2, "heads": 2, "width": 4, "rows": 5, "columns": 6},
    "galerkin_attention": {"batch": 2, "tokens": 9, "heads": 2, "width": 4},
    "axial_kernel": {"batch": 2, "heads": 2, "width": 4, "size": 5},
    "transform_once": {"batch": 2, "size": 8, "modes": 3, "width": 4, "layers": 2},
    "bilinear_mlp": {"tokens": 3, "width": 8, "hidden": 12},
    "tensor_train_layer": {"tokens": 3, "modes": (2, 3, 2, 2), "rank": 2},
    "hyperbolic_linear": {"rows": 4, "width": 6},
}


def in_float64(built: tuple[nn.Module, tuple[Tensor, ...]]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    model, inputs = built
    return model.double(), tuple(x.double() for x in inputs)


@pytest.mark.parametrize("name", ZOO)
def test_it_compiles_without_opaque_stages_and_agrees(name: str, compiled: Callable[..., tpopt.CompiledModel]):
    model, inputs = ZOO[name](**SMALL[name])
    fast = compiled(model, inputs, kernels="library")
    assert not fast.report.opaque
    want = model.double()(*(x.double() for x in inputs))
    model.float()
    assert (fast(*inputs) - want).norm() <= 1e-5 * want.norm()


def test_values_on_the_grid_give_the_gaunt_product():
    model, (x, y) = in_float64(gaunt_product(3, 2, 3))
    want = torch.einsum("ijk,uci,ucj->uck", gaunt_tensor(3).double(), x, y)
    assert torch.allclose(model(x, y), want, atol=1e-5)


def test_the_convolution_commutes_with_turns_about_the_edge():
    degree = 3
    model, (x, turn) = in_float64(so2_convolution(degree, 2, 4, 3))
    unit = torch.eye(turn.shape[-1], dtype=x.dtype).expand_as(turn)
    about = unit[0].clone()
    for l in range(degree + 1):
        for m in range(1, l + 1):
            plus, minus, angle = l * l + l + m, l * l + l - m, torch.tensor(0.7 * m)
            about[plus, plus] = about[minus, minus] = torch.cos(angle)
            about[plus, minus], about[minus, plus] = -torch.sin(angle), torch.sin(angle)
    turned = torch.einsum("pk,ekc->epc", about, x)
    assert torch.allclose(model(turned, unit), torch.einsum("pk,ekc->epc", about, model(x, unit)), atol=1e-6)


def test_the_layer_commutes_with_orthogonal_matrices():
    model, (x,) = in_float64(orthogonal_layer(4, 2, 3))
    q = torch.linalg.qr(torch.randn(4, 4, dtype=x.dtype)).Q
    turned = torch.einsum("bcijkl,pi,qj,rk,sl->bcpqrs", x, q, q, q, q)
    assert torch.allclose(model(turned), torch.einsum("bcij,pi,qj->bcpq", model(x), q, q), atol=1e-9)


def test_the_layer_commutes_with_names_and_its_maps_are_independent():
    model, (x,) = in_float64(permutation_layer(6, 2, 3))
    order = torch.randperm(6)
    assert torch.allclose(model(x[:, :, order][..., order]), model(x)[:, :, order][..., order], atol=1e-9)
    single, (x,) = in_float64(permutation_layer(6, 4, 1))
    rows = []
    for number in range(15):
        with torch.no_grad():
            single.w.zero_()
            single.w[number] = 1
            rows.append(single(x).flatten())
    assert torch.linalg.matrix_rank(torch.stack(rows)) == 15


def test_the_interaction_commutes_with_rotations():
    model, (x, message) = in_float64(tensornet_product(5, 3))
    q = torch.linalg.qr(torch.randn(3, 3, dtype=x.dtype)).Q
    assert torch.allclose(model(q @ x @ q.T, q @ message @ q.T), q @ model(x, message) @ q.T, atol=1e-9)


def test_attention_between_means_gives_an_outer_sum():
    model, (x,) = in_float64(kronecker_attention(2, 2, 4, 5, 6))
    y = model(x)
    assert torch.allclose(y - y[..., :1] - y[..., :1, :] + y[..., :1, :1], torch.zeros_like(y), atol=1e-12)


def test_attention_without_a_softmax_is_associative():
    model, (x,) = in_float64(galerkin_attention(2, 9, 2, 4))
    q, k, v = (torch.einsum("btc,cd->btd", x, w).unflatten(2, (2, 4)) for w in (model.q, model.k, model.v))
    k, v = (nn.functional.layer_norm(t, (4,)) for t in (k, v))
    want = torch.einsum("bths,bshd->bthd", torch.einsum("bthc,bshc->bths", q, k), v) / 9
    assert torch.allclose(model(x), want.flatten(2), atol=1e-9)


def test_kernels_of_axes_are_one_kernel_of_the_grid():
    model, (x,) = in_float64(axial_kernel(1, 1, 4, 3))
    kernels = []
    for axis in (1, 2):
        means = nn.functional.gelu(x.mean(3 - axis) @ getattr(model, f"mean{axis}"))
        q, k = means @ getattr(model, f"q{axis}"), means @ getattr(model, f"k{axis}")
        kernels.append((q @ k.transpose(1, 2) / 3)[0])
    want = torch.kron(*kernels) @ (x @ model.v).flatten(1, 2)[0]
    assert torch.allclose(model(x).flatten(1, 2)[0], want, atol=1e-9)


def test_one_transform_keeps_what_it_does_not_mix():
    model, (x,) = in_float64(transform_once(1, 8, 8, 3, 2))
    with torch.no_grad():
        model.mix0.zero_()
        model.mix1.zero_()
    assert torch.allclose(model(x), x, atol=1e-6)


def test_a_bilinear_layer_has_degree_two():
    model, (x,) = in_float64(bilinear_mlp(3, 8, 12))
    assert torch.allclose(model(3 * x), 9 * model(x))


def test_a_train_of_cores_is_one_matrix():
    model, (x,) = in_float64(tensor_train_layer(3, (2, 3, 2, 2), 2))
    cores = [getattr(model, name) for name in model.names]
    matrix = torch.einsum("zaib,bcjd,dekf,fglz->acegijkl", *cores).reshape(24, 24)
    assert torch.allclose(model(x), x @ matrix, atol=1e-12)


def test_hyperbolic_points_stay_in_the_ball_and_the_unit_matrix_keeps_them():
    model, (x,) = in_float64(hyperbolic_linear(6, 5))
    assert model(x).norm(dim=-1).max() < 1
    with torch.no_grad():
        model.w.copy_(torch.eye(5))
        model.b.zero_()
    assert torch.allclose(model(x), x)
