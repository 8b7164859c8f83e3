from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering
from torch import nn, randn

from tpopt.ir import Kernel

torch.manual_seed(20)
ATEN = torch.ops.aten
AUTO = torch.export.Dim.AUTO
attend = F.scaled_dot_product_attention
QUERY, KEY, VALUE = randn(2, 3, 5, 7), randn(2, 3, 11, 7), randn(2, 3, 11, 13)
HIDDEN = torch.rand(5, 11) > 0.4
HIDDEN[2] = False


def test_attention_is_one_kernel_that_keeps_its_algebra():
    (stage,) = check_lowering(attend, QUERY, KEY, VALUE).algebra.stages
    assert isinstance(stage, Kernel)
    assert (stage.implementation, dict(stage.parameters)) == ("attention", {"causal": False, "scale": None})
    assert [t.name for t in stage.reads] == ["args_0", "args_1", "args_2"]
    assert [len(s.loops) for s in stage.defines] == [4, 3, 4, 4]


def test_run_time_extents():
    check_lowering(
        attend, QUERY, KEY, VALUE, dynamic=True, also=[(randn(3, 4, 6, 8), randn(3, 4, 2, 8), randn(3, 4, 2, 9))]
    )
    check_lowering(lambda x: attend(x, x, x, is_causal=True), QUERY, dynamic=({2: AUTO},), also=[(randn(2, 3, 9, 7),)])


@pytest.mark.parametrize("scale", [None, 0.3])
def test_causal_attention_is_aligned_at_the_first_key(scale):
    check_lowering(lambda q, k, v: attend(q, k, v, is_causal=True, scale=scale), QUERY, KEY, VALUE)
    check_lowering(lambda q, k, v: attend(k, q, q, is_causal=True, scale=scale), QUERY, KEY, VALUE)


@pytest.mark.parametrize("mask", [HIDDEN, randn(2, 1, 5, 11), torch.where(HIDDEN, 0.0, -float("inf")), randn(1, 11)])
def test_masks_of_both_kinds_broadcast_and_may_hide_everything(mask):
    check_lowering(attend, QUERY, KEY, VALUE, mask)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_heads_share_keys_and_values(heads):
    grouped = (randn(2, heads, 11, 7), randn(2, heads, 11, 13))
    check_lowering(lambda q, k, v: attend(q, k, v, enable_gqa=True), randn(2, 6, 5, 7), *grouped)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3, 5)], ids=str)
def test_other_ranks(lead):
    check_lowering(attend, randn(*lead, 5, 7), randn(*lead, 11, 7), randn(*lead, 11, 7))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_element_types(dtype):
    check_lowering(attend, QUERY.to(dtype), KEY.to(dtype), VALUE.to(dtype))


def test_the_kernels_that_attention_decomposes_into():
    flash, math = (
        ATEN._scaled_dot_product_flash_attention_for_cpu.default,
        ATEN._scaled_dot_product_attention_math.default,
    )
    check_lowering(lambda x: flash(x, x, x, 0.0, True), QUERY)
    check_lowering(lambda q, k: flash(q, k, k)[0], QUERY, KEY)
    check_lowering(lambda q, k, v: math(q, k, v), QUERY, KEY, VALUE)


def test_dropout_stays_whole():
    traced = check_lowering(
        lambda q: attend(q, q, q, dropout_p=0.5) * 0, QUERY, opaque=["aten.scaled_dot_product_attention.default"]
    )
    assert list(traced.reasons.values()) == ["attention drops at random (dropout_p=0.5)"]


LAYERS = {
    "heads": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), 3),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
    "decoder": (lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_a_transformer(name):
    make, inputs = LAYERS[name]
    layer = make().eval().requires_grad_(False)
    dynamic = tuple({0: AUTO, 1: AUTO} for _ in range(inputs))
    given, other = randn(2, 5, 8), randn(3, 7, 8)
    check_lowering(lambda *x: layer(*x), *[given] * inputs, dynamic=dynamic, also=[(other,) * inputs])
