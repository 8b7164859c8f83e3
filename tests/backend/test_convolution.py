from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.kernels import Offer, offer
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.backend.library.epilogue import ACTIVATIONS
from tpopt.choose.candidate import CHANNELS_LAST, ROW, Value
from tpopt.choose.careful import FREE, excess_terms
from tpopt.choose.pricing import planned
from tpopt.ir import Symbol, index
from tpopt.ir.walk import map_stage_tensors

X2, X3 = torch.randn(2, 6, 13, 11), torch.randn(2, 6, 5, 7, 3)
LAYERS = {
    "plain": (X2, lambda: nn.Conv2d(6, 8, 3)),
    "stride and padding": (X2, lambda: nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)),
    "dilated": (X2, lambda: nn.Conv2d(6, 8, 3, dilation=2, padding=2)),
    "grouped": (X2, lambda: nn.Conv2d(6, 9, 3, groups=3, padding=1)),
    "depthwise": (X2, lambda: nn.Conv2d(6, 6, 5, groups=6, padding=2)),
    "pointwise": (X2, lambda: nn.Conv2d(6, 8, 1)),
    "one filter": (X2, lambda: nn.Conv2d(6, 1, 3)),
    "3-D": (X3, lambda: nn.Conv3d(6, 4, 3, padding=1, stride=(1, 2, 1))),
    "adjoint": (X2, lambda: nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1)),
    "grouped adjoint": (X2, lambda: nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1, groups=2, bias=False)),
    "adjoint with output padding": (X2, lambda: nn.ConvTranspose2d(6, 3, 5, stride=3, padding=2, output_padding=2)),
    "dilated adjoint": (X2, lambda: nn.ConvTranspose2d(6, 3, 3, stride=1, dilation=2)),
}


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=2e-5, check_stride=False)


@pytest.mark.parametrize("name", LAYERS)
def test_the_kernel_computes_what_torch_computes_in_every_layout(name: str):
    torch.manual_seed(0)
    x, layer = LAYERS[name]
    made = offer(lambda m, x: m(x), x, parts=(layer(),))
    offered = [c for c in made.named("onednn") if c.stage.implementation == "onednn.convolution"]
    assert [c.needs[0].layout for c in offered] == ([CHANNELS_LAST, ROW] if x.dim() == 4 else [ROW])
    for candidate in offered:
        close(made.run(candidate), made.expected())


def fused(activation: str, layer: nn.Module) -> tuple[Offer, Any]:
    known = ACTIVATIONS[activation]
    target = known.target.removeprefix("aten.").removesuffix(".default")
    arguments = {"approximate": known.arguments[0]} if target == "gelu" else {}
    function = getattr(torch.ops.aten, target)
    plain = () if target == "gelu" else known.arguments
    made = offer(lambda m, x: function(m(x), *plain, **arguments), X2, parts=(layer,))
    (name,) = (t.name for t in made.cleaned.outputs)
    return made, [c for c in made.named("onednn") if c.produces == (Value(name, CHANNELS_LAST),)]


@pytest.mark.parametrize("activation", [a for a in ACTIVATIONS if a])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_an_activation_is_fused_into_the_kernel(activation: str, kind: Any):
    torch.manual_seed(0)
    made, offered = fused(activation, kind(6, 8, 3, stride=2, padding=1))
    assert len(offered) == 2
    for candidate in offered:
        assert dict(candidate.stage.parameters)["activation"] == activation
        assert len(candidate.covers) == 2
        close(made.run(candidate), made.expected())


def residual(m: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.relu(m(x) + y)


@pytest.mark.parametrize("function", [residual, lambda m, x, y: y + m(x)])
def test_an_added_tensor_is_fused_with_and_without_relu(function: Any):
    torch.manual_seed(0)
    y = torch.randn(2, 8, 13, 11)
    made = offer(function, X2, y, parts=(nn.Conv2d(6, 8, 3, padding=1),))
    (out,) = made.cleaned.outputs
    offered = [c for c in made.named("onednn") if c.produces == (Value(out.name, CHANNELS_LAST),)]
    assert [c.needs[1] for c in offered] == [Value("args_1", CHANNELS_LAST)] * 2
    for candidate in offered:
        before = y.clone()
        close(made.run(candidate, args_1=y), made.expected())
        assert torch.equal(y, before)


def test_an_added_volume_has_no_channels_last_layout():
    made = offer(residual, X3, torch.randn(2, 4, 5, 7, 3), parts=(nn.Conv3d(6, 4, 3, padding=1),))
    candidate = next(c for c in made.named("onednn") if c.produces[0].name == "relu")
    assert {v.layout for v in (*candidate.needs, *candidate.produces)} == {ROW}
    close(made.run(candidate), made.expected())


REFUSED = {
    "oneDNN adds a tensor only to a direct convolution, with or without relu": (
        residual, nn.ConvTranspose2d(6, 8, 3, padding=1), torch.randn(2, 8, 13, 11),
    ),
    "oneDNN's packed transposed convolution is wired for two dimensions": (
        lambda m, x, y: m(y), nn.ConvTranspose3d(6, 4, 4, stride=2, padding=1), X3,
    ),
    "oneDNN's packed convolution is wired for f32, this is f64": (
        lambda m, x, y: m(y), nn.Conv2d(6, 4, 3).double(), X2.double(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_kernel_cannot_do_is_refused_with_the_reason(reason: str):
    function, layer, y = REFUSED[reason]
    assert reason in offer(function, X2, y, parts=(layer,)).reasons()


def test_a_bias_that_is_a_part_of_a_weight_is_refused():
    def half(m: nn.Module, longer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, m.weight, longer.bias[:4])

    made = offer(half, X2, parts=(nn.Conv2d(6, 4, 3), nn.Conv2d(6, 8, 3)), pipeline="inline-views")
    assert made.reasons() == ["the added term is no weight over the filters"]


def test_a_weight_is_packed_once_for_all_dynamic_batches_and_for_each_static_shape():
    made = offer(lambda m, x: m(x), X2, parts=(nn.Conv2d(6, 8, 3),))
    static, binder, batch = planned(made.named("onednn")[1]), Binder(made.weights()), index(Symbol("s0", 1, 64))
    dynamic = map_stage_tensors(static, lambda t: replace(t, shape=(batch, *t.shape[1:])) if t.name == "args_0" else t)
    packed = [binder.bind(dynamic, {"s0": n}).args[1] for n in (1, 2, 7)]
    assert packed[0] is packed[1] is packed[2]
    assert binder.bind(static, {}).args[1] is not packed[0]


PARTS = {
    "plain": lambda m, x, y: m(x),
    "with an activation": lambda m, x, y: torch.relu(m(x)),
    "with an added tensor": lambda m, x, y: m(x) + y,
    "with both": lambda m, x, y: torch.relu(m(x) + y),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("dilation", [1, 2])
def test_long_sums_are_offered_in_parts(name: str, dilation: int):
    layer = nn.Conv2d(128, 8, 3, padding=dilation, dilation=dilation)
    made = offer(PARTS[name], torch.randn(1, 128, 5, 7), torch.randn(1, 8, 5, 7), parts=(layer,))
    found = [c for c in made.named("onednn") if c.stage.implementation == "onednn.convolution_in_parts"]
    widest = max(found, key=lambda c: len(c.covers))
    assert widest.produces == (Value(made.cleaned.outputs[0].name, CHANNELS_LAST),)
    assert {excess_terms(c, {}) for c in found} == {128 * 9 // 4 - FREE}
    close(made.run(widest), made.expected())


@pytest.mark.parametrize("layer", [nn.Conv2d(96, 8, 3), nn.Conv2d(130, 8, 3), nn.Conv2d(256, 8, 3, groups=2)])
def test_short_sums_and_groups_stay_whole(layer: nn.Conv2d):
    made = offer(lambda m, x: m(x), torch.randn(1, layer.in_channels, 5, 7), parts=(layer,))
    assert all(c.stage.implementation != "onednn.convolution_in_parts" for c in made.found.admitted)
