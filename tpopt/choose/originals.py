"""The original operators as candidates: each traced call as it is, and in channels-last where torch keeps it."""

from __future__ import annotations

from tpopt.choose.candidate import CHANNELS_LAST, ROW, Candidate, Candidates, Value
from tpopt.choose.keys import opaque_key
from tpopt.ir import Opaque, Program, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.rewrite.numerics import Numerics

_KEEPS_CHANNELS_LAST = frozenset(
    """
    add.Tensor sub.Tensor mul.Tensor div.Tensor add.Scalar mul.Scalar relu.default leaky_relu.default elu.default
    gelu.default silu.default hardswish.default hardsigmoid.default hardtanh.default relu6.default sigmoid.default
    tanh.default clamp.default prelu.default mish.default softplus.default exp.default neg.default abs.default
    sqrt.default rsqrt.default pow.Tensor_Scalar maximum.default minimum.default where.self dropout.default
    max_pool2d.default avg_pool2d.default adaptive_avg_pool2d.default batch_norm.default
    _native_batch_norm_legit_no_training.default cat.default upsample_nearest2d.vec upsample_bilinear2d.vec
    pixel_shuffle.default
    """.split()
)
"""Operators whose ATen kernels take and yield channels-last without a conversion (seen in torch 2.13's CPU kernels)."""
_KEEPS_IT_ON_CUDA = frozenset("conv2d.default convolution.default conv_transpose2d.input".split())
"""What cuDNN computes in channels-last as it computes row-major; on the CPU, oneDNN's own candidates do."""
_VIEWS = frozenset(
    """
    view.default _unsafe_view.default reshape.default permute.default transpose.int t.default squeeze.dim
    squeeze.dims squeeze.default unsqueeze.default expand.default select.int slice.Tensor narrow.default
    unfold.default detach.default alias.default split.Tensor split_with_sizes.default chunk.default unbind.int
    diagonal.default flatten.using_ints movedim.int view_as_real.default real.default view_as_complex.default
    """.split()
)


def original_candidates(original: Program, found: Candidates, device: str = "cpu") -> None:
    """Adds a candidate for every stage of the original program, in program order."""
    keeps = _KEEPS_CHANNELS_LAST | (_KEEPS_IT_ON_CUDA if device == "cuda" else frozenset())
    weights = set(original.weights)
    for stage in original.stages:
        if not isinstance(stage, Opaque):
            continue
        name = stage.outs[0].name if stage.outs else stage.target
        short = stage.target.removeprefix("aten.")
        reads = [t for t in stage_reads(stage) if t not in weights]
        outs = tuple(Value(o.name) for o in stage.outs)
        free = short in _VIEWS
        covers = tuple(o.name for o in stage.outs)
        needs = tuple(Value(t.name) for t in reads)
        found.add(
            Candidate(
                f"{name}:original",
                "view" if free else "original",
                stage,
                needs,
                outs,
                opaque_key(stage, ROW),
                covers=covers,
                free=free,
            )
        )
        if short in keeps and _all_images(reads) and _all_images(stage.outs[:1]):
            last = tuple(Value(o.name, CHANNELS_LAST if o.rank == 4 else ROW) for o in stage.outs)
            wants = tuple(Value(t.name, CHANNELS_LAST if t.rank == 4 else ROW) for t in reads)
            key = opaque_key(stage, CHANNELS_LAST)
            label = Numerics.REASSOCIATING  # pooling sums a window in another order
            found.add(Candidate(f"{name}:channels-last", "original", stage, wants, last, key, label, covers))


def _all_images(tensors: list[Tensor] | tuple[Tensor, ...]) -> bool:
    """Rank-4 floating tensors, at least one of them."""
    images = [t for t in tensors if t.rank == 4]
    return bool(images) and all(t.dtype.is_float for t in images)


def is_original(candidate: Candidate) -> bool:
    """Whether a candidate runs a traced operator as it was."""
    return candidate.kind == "original" or candidate.name.endswith(":original")
