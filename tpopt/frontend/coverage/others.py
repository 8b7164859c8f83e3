"""One call at any size of operators beyond the core ones that torch's own sample inputs do not lead to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from tpopt.frontend.coverage.calls import Call, call
from tpopt.frontend.coverage.samples import Make, named, real, truth, unit, whole

ATEN = torch.ops.aten


def complexes(*shape: int) -> torch.Tensor:
    """Standard normal complex numbers."""
    return torch.complex(real(*shape), real(*shape))


_POINTWISE: dict[str, Make] = {
    **named("__and__.Scalar __or__.Scalar __xor__.Scalar", lambda n: call(whole(99, n, n), 5)),
    **named("__and__.Tensor __or__.Tensor __xor__.Tensor", lambda n: call(whole(99, n, n), whole(99, n))),
    **named("__lshift__.Scalar __rshift__.Scalar", lambda n: call(whole(99, n, n), 2)),
    **named("__lshift__.Tensor __rshift__.Tensor", lambda n: call(whole(99, n, n), whole(5, n))),
    **named("bitwise_left_shift.Tensor_Scalar bitwise_right_shift.Tensor_Scalar", lambda n: call(whole(99, n, n), 2)),
    **named("bitwise_left_shift.Scalar_Tensor bitwise_right_shift.Scalar_Tensor", lambda n: call(64, whole(5, n, n))),
    **named(
        "bitwise_and.Scalar_Tensor bitwise_or.Scalar_Tensor bitwise_xor.Scalar_Tensor",
        lambda n: call(5, whole(99, n, n)),
    ),
    **named("copysign.Scalar floor_divide.Scalar true_divide.Scalar", lambda n: call(real(n, n), -1.7)),
    **named("xlogy.Scalar_Other special_xlog1py.other_scalar", lambda n: call(unit(n, n), 1.7)),
    **named(
        "remainder.Scalar_Tensor xlogy.Scalar_Self special_xlog1py.self_scalar where.ScalarSelf",
        lambda n: call(1.7, unit(n, n)),
    ),
    "aten.where.ScalarSelf": lambda n: call(truth(n, n), 1.7, real(n)),
    "aten.where.ScalarOther": lambda n: call(truth(n, n), real(n), 1.7),
    "aten.where.Scalar": lambda n: call(truth(n, n), 1.7, 2.5),
    "aten.special_xlog1py.default": lambda n: call(unit(n, n), unit(n)),
    "aten.clamp_max.default": lambda n: call(real(n, n), 0.3),
    "aten.fill.Tensor": lambda n: call(real(n, n), real()),
    "aten.rrelu_with_noise_functional.default": lambda n: call(real(n, n), unit(n, n)),
    **named("dropout.default alpha_dropout.default feature_dropout.default", lambda n: call(real(n, n), 0.5, False)),
    "aten.feature_alpha_dropout.default": lambda n: call(real(n, n), 0.5, False),
    "aten.one_hot.default": lambda n: call(whole(n, n), n),
}
_COPIES: dict[str, Make] = {
    **named(
        "positive.default contiguous.default detach_copy.default lift.default lift_fresh_copy.default "
        "_neg_view.default conj.default conj_physical.default real.default resolve_conj.default resolve_neg.default "
        "numpy_T.default ravel.default mT.default",
        lambda n: call(real(n, n)),
    ),
    **named("mH.default matrix_H.default adjoint.default", lambda n: call(real(n, n))),
    "aten.imag.default": lambda n: call(complexes(n, n)),
    "aten.view_as_real_copy.default": lambda n: call(complexes(n, n)),
    "aten.view_as_complex_copy.default": lambda n: call(real(n, n, 2)),
    **named("reshape.default _reshape_copy.default", lambda n: call(real(n, n), [n * n // 4, 4])),
    "aten._reshape_alias.default": lambda n: call(real(n, n), [n * n // 4, 4], [4, 1]),
    **named("view_as.default", lambda n: call(real(n, n), real(n * n // 4, 4))),
    **named("expand_as.default", lambda n: call(real(n, 1), real(n, n))),
    "aten.broadcast_to.default": lambda n: call(real(n, 1), [n, n]),
    "aten.flatten.using_ints": lambda n: call(real(n, n, 3), 1),
    "aten.unflatten.int": lambda n: call(real(n, n), 1, [n // 4, 4]),
    **named("swapaxes.default swapdims.default", lambda n: call(real(n, n, 3), 0, 2)),
    **named("movedim.int moveaxis.int", lambda n: call(real(n, n, 3), 0, 2)),
    **named("movedim.intlist moveaxis.intlist", lambda n: call(real(n, n, 3), [0, 1], [2, 0])),
    "aten.narrow.default": lambda n: call(real(n, n), 1, 2, n - 3),
    "aten.select_copy.int": lambda n: call(real(n, n), 1, -1),
    "aten.slice_copy.Tensor": lambda n: call(real(n, n), 1, 1, -1, 2),
    "aten.squeeze_copy.dims": lambda n: call(real(n, 1, n), [1]),
    **named("chunk.default unsafe_chunk.default tensor_split.sections", lambda n: call(real(n, n), 5, 1)),
    "aten.tensor_split.indices": lambda n: call(real(n, n), [2, n - 3], 1),
    **named("split.sizes unsafe_split_with_sizes.default", lambda n: call(real(n, n), [3, n - 3], 1)),
    "aten.split_copy.Tensor": lambda n: call(real(n, n), 5, 1),
    "aten.native_channel_shuffle.default": lambda n: call(real(2, 4, n, n), 2),
    "aten.to.dtype": lambda n: call(real(n, n), torch.float64),
    "aten.to.dtype_layout": lambda n: call(real(n, n), dtype=torch.float64),
    "aten.to.device": lambda n: call(real(n, n), torch.device("cpu"), torch.float64),
    **named("to.other type_as.default", lambda n: call(real(n, n), whole(2, n))),
}
_CREATION: dict[str, Make] = {
    "aten.arange.start": lambda n: call(3, 3 + n),
    **named("fft_fftfreq.default fft_rfftfreq.default", lambda n: call(n, 0.5)),
    "aten.affine_grid_generator.default": lambda n: call(real(2, 2, 3), [2, 3, n, n], False),
}
_REDUCTIONS: dict[str, Make] = {
    "aten.argsort.stable": lambda n: call(whole(5, n, n), stable=True, dim=1),
    "aten.norm.Scalar": lambda n: call(real(n, n)),
    "aten.norm.ScalarOpt_dtype": lambda n: call(real(n, n), 2, dtype=torch.float64),
    "aten.norm.ScalarOpt_dim_dtype": lambda n: call(real(n, n), 2, [1], False, dtype=torch.float64),
    "aten._logcumsumexp.default": lambda n: call(real(n, n), 1),
    "aten._log_softmax_backward_data.default": lambda n: call(
        real(n, n), torch.log_softmax(real(n, n), 1), 1, torch.float32
    ),
    "aten._euclidean_dist.default": lambda n: call(real(n, 8), real(n, 8)),
    "aten._fused_rms_norm.default": lambda n: call(real(n, n), [n], real(n), 1e-5),
    "aten.batch_norm.default": lambda n: call(
        real(2, 4, n, n), real(4), real(4), real(4), unit(4), False, 0.1, 1e-5, False
    ),
}
_INDEXING: dict[str, Make] = {
    "aten._unsafe_index.Tensor": lambda n: call(real(n, n), [None, whole(n, n)]),
    "aten._unsafe_index_put.default": lambda n: call(real(n, n), [whole(n, n)], real(n, n), True),
    "aten.scatter.value_reduce": lambda n: call(real(n, n), 1, whole(n, n, n), 2.5, reduce="add"),
}
_CONTRACTIONS: dict[str, Make] = {
    "aten._scaled_dot_product_attention_math.default": lambda n: call(*(real(1, 2, n, 8) for _ in range(3))),
    "aten._scaled_dot_product_flash_attention_for_cpu.default": lambda n: call(*(real(1, 2, n, 8) for _ in range(3))),
    "aten.conv1d.padding": lambda n: call(real(1, 4, n), real(6, 4, 3), real(6), padding="same"),
    "aten.conv2d.padding": lambda n: call(real(1, 4, n, n), real(6, 4, 3, 3), real(6), padding="same"),
    "aten.conv3d.default": lambda n: call(real(1, 2, n, n, 4), real(3, 2, 3, 3, 3), real(3), [1, 1, 1], [1, 1, 1]),
    "aten.grid_sampler.default": lambda n: call(real(1, 2, n, n), unit(1, n, n, 2), 0, 0, False),
    **named("rnn_tanh.input rnn_relu.input", lambda n: _recurrent(n, 1)),
    "aten.gru.input": lambda n: _recurrent(n, 3),
    "aten.lstm.input": lambda n: _recurrent(n, 4),
}
_WINDOWS: dict[str, Make] = {
    **named("upsample_nearest1d.vec _upsample_nearest_exact1d.vec", lambda n: call(real(1, 2, n), [2 * n], None)),
    **named(
        "upsample_nearest3d.vec _upsample_nearest_exact3d.vec", lambda n: call(real(1, 2, n, n, 4), [n, n, 8], None)
    ),
    **named(
        "upsample_nearest3d.default _upsample_nearest_exact3d.default", lambda n: call(real(1, 2, n, n, 4), [n, n, 8])
    ),
    "aten._upsample_nearest_exact2d.vec": lambda n: call(real(1, 2, n, n), [2 * n, n], None),
    "aten._upsample_nearest_exact2d.default": lambda n: call(real(1, 2, n, n), [2 * n, n]),
    "aten.upsample_linear1d.vec": lambda n: call(real(1, 8, n), [2 * n], False, None),
    "aten.upsample_bicubic2d.vec": lambda n: call(real(1, 2, n, n), [2 * n, n], False, None),
    "aten.upsample_trilinear3d.vec": lambda n: call(real(1, 2, n, n, 4), [n, n, 8], False, None),
    "aten._adaptive_avg_pool3d_backward.default": lambda n: call(real(1, 2, 4, 4, 2), real(1, 2, n, n, 4)),
    "aten.avg_pool3d_backward.default": lambda n: call(
        real(1, 2, n // 2, n // 2, 2), real(1, 2, n, n, 4), [2] * 3, [2] * 3, [0] * 3, False, True, None
    ),
    "aten.adaptive_max_pool2d_backward.default": lambda n: _adaptive_max_pool_backward(n),  # noqa: PLW0108
    "aten.max_pool3d_with_indices_backward.default": lambda n: _max_pool_backward(n),  # noqa: PLW0108
}


def _recurrent(n: int, gates: int) -> Call:
    """A layer of 6 units over ``n`` steps of a batch of 2."""
    weights = [real(6 * gates, 5), real(6 * gates, 6), real(6 * gates), real(6 * gates)]
    state = real(1, 2, 6) if gates < 4 else [real(1, 2, 6), real(1, 2, 6)]
    return call(real(n, 2, 5), state, weights, True, 1, 0.0, False, False, False)


def _adaptive_max_pool_backward(n: int) -> Call:
    x = real(1, 2, n, n)
    out, where = ATEN.adaptive_max_pool2d.default(x, [4, 3])
    return call(torch.randn_like(out), x, where)


def _max_pool_backward(n: int) -> Call:
    x = real(1, 2, n, n, 4)
    out, where = ATEN.max_pool3d_with_indices.default(x, [2] * 3)
    return call(torch.randn_like(out), x, [2] * 3, [2] * 3, [0] * 3, [1] * 3, False, where)


OTHERS: Mapping[str, Make] = MappingProxyType(
    {**_POINTWISE, **_COPIES, **_CREATION, **_REDUCTIONS, **_INDEXING, **_CONTRACTIONS, **_WINDOWS}
)
