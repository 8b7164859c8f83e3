from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table, texts
from torch import randn

torch.manual_seed(20)
ATEN = torch.ops.aten
AUTO = torch.export.Dim.AUTO
IMAGES = randn(2, 6, 5, 7) * 2 + 1
WEIGHT, BIAS, MEAN, VARIANCE = randn(6), randn(6), randn(6), randn(6).abs()
PLANE = (randn(5, 7), randn(5, 7))

FORMS = {
    "batch": lambda x: F.batch_norm(x, MEAN.to(x), VARIANCE.to(x), WEIGHT.to(x), BIAS.to(x), eps=0.1),
    "batch plain": lambda x: F.batch_norm(x, MEAN.to(x), VARIANCE.to(x)),
    "batch own": lambda x: F.batch_norm(x, None, None, training=True),
    "instance": lambda x: F.instance_norm(x, weight=WEIGHT.to(x), bias=BIAS.to(x)),
    "instance running": lambda x: F.instance_norm(x, MEAN.to(x), VARIANCE.to(x), use_input_stats=False),
    "layer": lambda x: F.layer_norm(x, (5, 7), *(p.to(x) for p in PLANE)),
    "layer plain": lambda x: F.layer_norm(x, (7,)),
    "group": lambda x: F.group_norm(x, 3, WEIGHT.to(x), BIAS.to(x)),
    "group plain": lambda x: F.group_norm(x, 2),
    "rms": lambda x: F.rms_norm(x * 1e-3, (7,)),
    "rms weight": lambda x: F.rms_norm(x, (5, 7), PLANE[0].to(x), eps=0.1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "normalize 1": lambda x: F.normalize(x, p=1, dim=-1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_normalizations(dtype):
    check_table(FORMS, IMAGES.to(dtype), rtol=3e-2 if dtype is torch.bfloat16 else None)


def test_local_response():
    check_lowering(lambda x: F.local_response_norm(x, 3), IMAGES, dynamic=({0: AUTO, 2: AUTO},))


def test_normalizations_of_run_time_extents():
    plain = {k: f for k, f in FORMS.items() if k not in ("layer", "rms weight")}
    check_table(plain, IMAGES, dynamic=({0: AUTO, 2: AUTO},), also=[(randn(3, 6, 8, 7),)])


def test_a_layer_norm_is_one_welford_reduction_and_one_map():
    traced = check_lowering(lambda x: F.layer_norm(x, (7,)), IMAGES)
    statistics, mapped = texts(traced)
    assert statistics.count("welford[k0:7]") == 2
    assert mapped.endswith("(args_0[i0,i1,i2,i3] - layer_norm.t[i0,i1,i2]) * layer_norm.t_1[i0,i1,i2]")


def test_a_batch_norm_in_inference_reads_its_statistics():
    traced = check_lowering(lambda x, m, v: F.batch_norm(x, m, v, eps=0.5), IMAGES, MEAN, VARIANCE)
    assert texts(traced) == ["L[i0:2,i1:6,i2:5,i3:7] (args_0[i0,i1,i2,i3] - args_1[i1]) * rsqrt(args_2[i1] + 0.5)"]


def test_forms_with_their_moments():
    check_lowering(torch.native_layer_norm, IMAGES, [7], randn(7), randn(7), 1e-5)
    check_lowering(torch.native_group_norm, IMAGES, WEIGHT, BIAS, 2, 6, 35, 3, 1e-5)
    check_lowering(ATEN._native_batch_norm_legit.no_stats, IMAGES, WEIGHT, BIAS, True, 0.1, 1e-5)
    check_lowering(ATEN._native_batch_norm_legit_no_training.default, IMAGES, WEIGHT, BIAS, MEAN, VARIANCE, 0.1, 1e-5)
    for training in (True, False):
        functional = ATEN._native_batch_norm_legit_functional.default
        check_lowering(functional, IMAGES, WEIGHT, BIAS, MEAN, VARIANCE, training, 0.1, 1e-5)


def layer_gradients(dtype, mask, weighted):
    x, shape = IMAGES.to(dtype), [5, 7]
    weight, bias = (p.to(dtype) if weighted else None for p in PLANE)
    _, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, 1e-5)
    backward = ATEN.native_layer_norm_backward.default
    return lambda g, x: backward(g, x, shape, mean[: len(g)], rstd[: len(g)], weight, bias, mask), x


def group_gradients(dtype, mask, weighted):
    x, weight, bias = IMAGES.to(dtype), *(p.to(dtype) if weighted else None for p in (WEIGHT, BIAS))
    _, mean, rstd = torch.native_group_norm(x, weight, bias, 2, 6, 35, 3, 1e-5)
    backward = ATEN.native_group_norm_backward.default
    return lambda g, x: backward(g, x, mean, rstd, weight, 2, 6, 35, 3, mask), x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gradients", [layer_gradients, group_gradients])
def test_gradients(gradients, dtype):
    for mask, weighted in (([True] * 3, True), ([True, False, False], False)):
        function, x = gradients(dtype, mask, weighted)
        half = dtype is torch.bfloat16
        check_lowering(function, randn(x.shape).to(dtype), x, rtol=3e-2 if half else None, atol=0.1 if half else None)


@pytest.mark.parametrize("gradients", [layer_gradients, group_gradients])
def test_gradients_of_parameters_alone_leave_the_input_out(gradients):
    function, x = gradients(torch.float32, [False, True, True], True)
    traced = check_lowering(lambda *a: function(*a)[1:], randn(x.shape), x)
    assert not any(t.startswith("L[i0:2,i1:6,i2:5,i3:7]") for t in texts(traced))


def test_a_gradient_of_a_layer_norm_is_two_sums_over_rows_and_one_map():
    function, x = layer_gradients(torch.float32, [True, False, False], True)
    sums, mapped = texts(check_lowering(function, randn(x.shape), x))
    assert (sums.count("sum["), mapped.count("sum[")) == (2, 0)


SOFTMAXES = {
    "softmax first": lambda x: F.softmax(x, 0),
    "softmax last": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "softmin": lambda x: F.softmin(x, 1),
    "safe_softmax": lambda x: torch._safe_softmax(x, 1),
    "wanted type": lambda x: F.softmax(x, 0, dtype=torch.float64),
    "_softmax": lambda x: torch._softmax(x, 1, False),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_softmaxes(dtype):
    check_table(SOFTMAXES, (randn(3, 5, 7) * 8).to(dtype))


def test_softmaxes_of_run_time_extents_and_of_a_number():
    check_table(SOFTMAXES, randn(3, 5, 7), dynamic=True, also=[(randn(2, 8, 3),)])
    check_table({"softmax": lambda x: F.softmax(x, 0), "log": lambda x: F.log_softmax(x, 0)}, randn(()))
    check_lowering(lambda x: F.softmax(x, 0, dtype=torch.float32), torch.randint(0, 9, (5,)))


def test_rows_of_minus_infinity_are_nan_or_safe():
    rows = randn(3, 5)
    rows[1], rows[2, :2] = -float("inf"), -float("inf")
    check_table({"plain": lambda x: F.softmax(x, -1), "safe": lambda x: torch._safe_softmax(x, -1)}, rows)


def test_gradients_of_softmaxes():
    for name in ("_softmax_backward_data", "_log_softmax_backward_data"):
        backward = getattr(ATEN, name).default
        check_lowering(lambda g, y, f=backward: f(g, y, 1, torch.float32), randn(3, 5), randn(3, 5))
