"""One call of each core operator at any size: what its work is measured on, and a sample where torch ships none.

Values are drawn from torch's generator; the caller seeds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch

from tpopt.frontend.coverage.calls import Call, call

Make: TypeAlias = Callable[[int], Call]


def real(*shape: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(shape)


def unit(*shape: int) -> torch.Tensor:
    """Numbers within (0.05, 0.95): inside the domain of every function."""
    return torch.rand(shape) * 0.9 + 0.05


def whole(high: int, *shape: int) -> torch.Tensor:
    """Integers in ``[0, high)``."""
    return torch.randint(0, high, shape)


def truth(*shape: int) -> torch.Tensor:
    """Booleans."""
    return torch.rand(shape) < 0.5


def named(names: str, make: Make) -> dict[str, Make]:
    """The same calls for several operators, named without ``aten.``."""
    return {f"aten.{name}": make for name in names.split()}


_POINTWISE: dict[str, Make] = {
    **named(
        "abs.default acos.default alias.default asin.default asinh.default atan.default atanh.default ceil.default "
        "clone.default cos.default cosh.default elu.default erf.default exp.default expm1.default floor.default "
        "gelu.default hardtanh.default isinf.default isnan.default leaky_relu.default log.default log10.default "
        "log1p.default log2.default logical_not.default neg.default reciprocal.default relu.default round.default "
        "rsqrt.default sigmoid.default sign.default sin.default sinh.default sqrt.default tan.default tanh.default "
        "trunc.default",
        lambda n: call(unit(n, n)),
    ),
    "aten.acosh.default": lambda n: call(unit(n, n) + 1),
    **named(
        "add.Tensor sub.Tensor mul.Tensor div.Tensor remainder.Tensor fmod.Tensor maximum.default minimum.default "
        "eq.Tensor ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor pow.Tensor_Tensor atan2.default copy.default "
        "logical_and.default logical_or.default logical_xor.default",
        lambda n: call(unit(n, n), unit(n)),
    ),
    **named(
        "add.Scalar sub.Scalar mul.Scalar div.Scalar remainder.Scalar fmod.Scalar eq.Scalar ne.Scalar lt.Scalar "
        "le.Scalar gt.Scalar ge.Scalar pow.Tensor_Scalar fill.Scalar",
        lambda n: call(unit(n, n), 1.7),
    ),
    "aten.atan2.out": lambda n: call(unit(n, n), unit(n), out=real(n, n)),
    "aten.pow.Scalar": lambda n: call(1.7, unit(n, n)),
    "aten.div.Tensor_mode": lambda n: call(real(n, n), unit(n), rounding_mode="floor"),
    "aten.div.Scalar_mode": lambda n: call(real(n, n), 0.7, rounding_mode="trunc"),
    **named("bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor", lambda n: call(whole(99, n, n), whole(99, n))),
    **named("bitwise_and.Scalar bitwise_or.Scalar bitwise_xor.Scalar", lambda n: call(whole(99, n, n), 5)),
    "aten.bitwise_not.default": lambda n: call(whole(99, n, n)),
    "aten.clamp.default": lambda n: call(real(n, n), -1.0, 1.0),
    "aten.clamp.Tensor": lambda n: call(real(n, n), -unit(n), unit(n)),
    "aten.where.self": lambda n: call(truth(n, n), real(n, n), real(n)),
    "aten._to_copy.default": lambda n: call(real(n, n), dtype=torch.float64),
    "aten.native_dropout.default": lambda n: call(real(n, n), 0.5, False),
}
_CREATION: dict[str, Make] = {
    "aten.arange.start_step": lambda n: call(0, 3 * n, 3),
    "aten.empty.memory_format": lambda n: call([n, n]),
    "aten.empty_strided.default": lambda n: call([n, n], [n, 1]),
    "aten.full.default": lambda n: call([n, n], 2.5),
    "aten.full_like.default": lambda n: call(real(n, n), 2.5),
    "aten.scalar_tensor.default": lambda _n: call(2.5),
    "aten.rand.default": lambda n: call([n]),
    "aten.randn.default": lambda n: call([n]),
    "aten.randperm.default": call,
}
_REDUCTIONS: dict[str, Make] = {
    **named("mean.default prod.default any.default argmax.default argmin.default", lambda n: call(real(n, n))),
    **named("amax.default amin.default mean.dim sum.dim_IntList any.dims", lambda n: call(real(n, n), [1])),
    **named("any.dim max.dim min.dim prod.dim_int cumsum.default sort.default var.dim", lambda n: call(unit(n, n), 1)),
    "aten.var.correction": lambda n: call(real(n, n), [1], correction=1),
    "aten.var.dim": lambda n: call(real(n, n), [1]),
    "aten.topk.default": lambda n: call(real(n, n), n // 4),
    **named("_softmax.default _log_softmax.default", lambda n: call(real(n, n), 1, False)),
    "aten._cdist_forward.default": lambda n: call(real(n, 8), real(n, 8), 2.0, None),
    "aten._pdist_forward.default": lambda n: call(real(n, 8), 2.0),
}
_VIEWS: dict[str, Make] = {
    "aten.as_strided.default": lambda n: call(real(n, n), [n // 2, n // 2], [n, 2], 1),
    "aten.cat.default": lambda n: call([real(n, n), real(n, 3), real(n, n)], 1),
    "aten.diagonal.default": lambda n: call(real(n, n, 4), 1),
    "aten.expand.default": lambda n: call(real(n, 1), [n, n]),
    "aten.flip.default": lambda n: call(real(n, n), [0, 1]),
    "aten.permute.default": lambda n: call(real(n, n, 3), [2, 0, 1]),
    "aten.repeat.default": lambda n: call(real(n, n), [2, 3]),
    "aten.resize_.default": lambda n: call(real(n, n), [n, n // 2]),
    "aten.select.int": lambda n: call(real(n, n), 1, -1),
    "aten.select_scatter.default": lambda n: call(real(n, n), real(n), 1, 2),
    "aten.slice.Tensor": lambda n: call(real(n, n), 1, 1, -1, 2),
    "aten.slice_scatter.default": lambda n: call(real(n, n), real(n, n - 2), 1, 1, n - 1),
    "aten.split_with_sizes.default": lambda n: call(real(n, n), [3, n - 3], 1),
    "aten.squeeze.dim": lambda n: call(real(n, 1, n), 1),
    "aten.squeeze.dims": lambda n: call(real(n, 1, n), [1]),
    "aten.unsqueeze.default": lambda n: call(real(n, n), 1),
    "aten.view.default": lambda n: call(real(n, n), [n * n // 4, 4]),
    "aten.sym_is_contiguous.default": lambda n: call(real(n, n)),
    "aten.sym_numel.default": lambda n: call(real(n, n)),
    "aten.sym_size.int": lambda n: call(real(n, n), 0),
    "aten.sym_storage_offset.default": lambda n: call(real(n, n)),
    "aten.sym_stride.int": lambda n: call(real(n, n), 0),
}
_INDEXING: dict[str, Make] = {
    "aten.embedding.default": lambda n: call(real(n, 8), whole(n, n, n)),
    "aten.embedding_dense_backward.default": lambda n: call(real(n, n, 8), whole(n, n, n), n, -1, False),
    "aten.gather.default": lambda n: call(real(n, n), 1, whole(n, n, n)),
    "aten.index.Tensor": lambda n: call(real(n, n), [None, whole(n, n)]),
    "aten.index_put.default": lambda n: call(real(n, n), [whole(n, n)], real(n, n), True),
    "aten.index_select.default": lambda n: call(real(n, n), 1, whole(n, n)),
    "aten.masked_scatter.default": lambda n: call(real(n, n), truth(n, n), real(n, n)),
    "aten.scatter.src": lambda n: call(real(n, n), 1, torch.stack([torch.randperm(n) for _ in range(n)]), real(n, n)),
    "aten.scatter.value": lambda n: call(real(n, n), 1, whole(n, n, n), 2.5),
    "aten.scatter_add.default": lambda n: call(real(n, n), 1, whole(n, n, n), real(n, n)),
    "aten.scatter_reduce.two": lambda n: call(real(n, n), 1, whole(n, n, n), real(n, n), "amax"),
    "aten.nonzero.default": lambda n: call(truth(n, n)),
    "aten._local_scalar_dense.default": lambda _n: call(real(1)),
    "aten._embedding_bag.default": lambda n: call(real(n, 8), whole(n, 2 * n), torch.arange(0, 2 * n, 4)),
}
_CONTRACTIONS: dict[str, Make] = {
    "aten.addmm.default": lambda n: call(real(n), real(n, n), real(n, n)),
    "aten.mm.default": lambda n: call(real(n, n), real(n, n)),
    "aten.bmm.default": lambda n: call(real(2, n, n), real(2, n, n)),
    "aten.convolution.default": lambda n: call(
        real(1, 4, n, n), real(6, 4, 3, 3), real(6), [1, 1], [1, 1], [1, 1], False, [0, 0], 1
    ),
    "aten.convolution_backward.default": lambda n: call(
        real(1, 6, n, n), real(1, 4, n, n), real(6, 4, 3, 3), [6], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True] * 3
    ),
    "aten._fft_r2c.default": lambda n: call(real(4, n), [1], 0, True),
    "aten._fft_c2r.default": lambda n: call(torch.complex(real(4, n // 2 + 1), real(4, n // 2 + 1)), [1], 2, n),
}
_WINDOWS: dict[str, Make] = {
    "aten._adaptive_avg_pool2d.default": lambda n: call(real(1, 2, n, n), [4, 3]),
    "aten._adaptive_avg_pool2d_backward.default": lambda n: call(real(1, 2, 4, 4), real(1, 2, n, n)),
    "aten._adaptive_avg_pool3d.default": lambda n: call(real(1, 2, n, n, 4), [4, 3, 2]),
    "aten.adaptive_avg_pool1d.default": lambda n: call(real(1, 2, n), [5]),
    "aten.avg_pool1d.default": lambda n: call(real(1, 2, n), [3], [2], [1]),
    "aten.avg_pool2d.default": lambda n: call(real(1, 2, n, n), [3, 3], [2, 2], [1, 1]),
    "aten.avg_pool2d_backward.default": lambda n: call(
        real(1, 2, n // 2, n // 2), real(1, 2, n, n), [2, 2], [2, 2], [0, 0], False, True, None
    ),
    "aten.avg_pool3d.default": lambda n: call(real(1, 2, n, n, 4), [2, 2, 2]),
    "aten.max_pool2d_with_indices.default": lambda n: call(real(1, 2, n, n), [3, 3], [2, 2], [1, 1]),
    "aten.max_pool2d_with_indices_backward.default": lambda n: _max_pool_backward(n),  # noqa: PLW0108 - defined below
    "aten.max_pool3d_with_indices.default": lambda n: call(real(1, 2, n, n, 4), [2, 2, 2]),
    "aten.constant_pad_nd.default": lambda n: call(real(n, n), [1, 2, 3, 0], 1.5),
    "aten.reflection_pad1d.default": lambda n: call(real(2, n), [2, 1]),
    "aten.reflection_pad2d.default": lambda n: call(real(1, 2, n, n), [2, 1, 0, 3]),
    "aten.reflection_pad3d.default": lambda n: call(real(1, 2, n, n, 4), [2, 1, 0, 3, 1, 1]),
    "aten.replication_pad2d.default": lambda n: call(real(1, 2, n, n), [2, 1, 0, 3]),
    "aten.replication_pad3d.default": lambda n: call(real(1, 2, n, n, 4), [2, 1, 0, 3, 1, 1]),
    "aten.col2im.default": lambda n: call(real(1, 8, n * n), [2 * n, 2 * n], [2, 2], [1, 1], [0, 0], [2, 2]),
    "aten.grid_sampler_2d.default": lambda n: call(real(1, 2, n, n), real(1, n, n, 2), 0, 0, False),
    "aten.upsample_bilinear2d.vec": lambda n: call(real(1, 2, n, n), None, False, [2.0, 2.0]),
    "aten.upsample_nearest2d.vec": lambda n: call(real(1, 2, n, n), None, [2.0, 2.0]),
}
_NORMALIZATIONS: dict[str, Make] = {
    "aten._native_batch_norm_legit.default": lambda n: call(
        real(2, 4, n, n), real(4), real(4), real(4), unit(4), True, 0.1, 1e-5
    ),
    "aten._native_batch_norm_legit.no_stats": lambda n: call(real(2, 4, n, n), real(4), real(4), True, 0.1, 1e-5),
    "aten._native_batch_norm_legit_no_training.default": lambda n: call(
        real(2, 4, n, n), real(4), real(4), real(4), unit(4), 0.1, 1e-5
    ),
    "aten.native_group_norm.default": lambda n: call(real(2, 4, n, n), real(4), real(4), 2, 4, n * n, 2, 1e-5),
    "aten.native_group_norm_backward.default": lambda n: call(
        real(2, 4, n, n), real(2, 4, n, n), real(2, 2), unit(2, 2), real(4), 2, 4, n * n, 2, [True] * 3
    ),
    "aten.native_layer_norm.default": lambda n: call(real(n, n), [n], real(n), real(n), 1e-5),
    "aten.native_layer_norm_backward.default": lambda n: call(
        real(n, n), real(n, n), [n], real(n, 1), unit(n, 1), real(n), real(n), [True] * 3
    ),
}


def _max_pool_backward(n: int) -> Call:
    x = real(1, 2, n, n)
    out, where = torch.ops.aten.max_pool2d_with_indices.default(x, [3, 3], [2, 2], [1, 1])
    return call(torch.randn_like(out), x, [3, 3], [2, 2], [1, 1], [1, 1], False, where)


SAMPLES: Mapping[str, Make] = MappingProxyType(
    {
        **_POINTWISE,
        **_CREATION,
        **_REDUCTIONS,
        **_VIEWS,
        **_INDEXING,
        **_CONTRACTIONS,
        **_WINDOWS,
        **_NORMALIZATIONS,
    }
)
