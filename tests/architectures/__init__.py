"""Small models of many kinds, from nobody's zoo: :data:`ARCHITECTURES` builds each by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from architectures import attention, images, others, sequences
from architectures.seeding import Example

__all__ = ["ARCHITECTURES", "REFUSED", "Example"]

ARCHITECTURES: Mapping[str, Callable[[], Example]] = {
    builder.__name__: builder
    for builder in (
        sequences.rnn_cell_loop,
        sequences.lstm,
        sequences.wavenet,
        sequences.s4d,
        sequences.sort_and_cumsum,
        sequences.speech,
        sequences.conformer,
        images.unet,
        images.depthwise,
        images.dense_block,
        images.pixel_shuffle,
        images.conv3d,
        images.vae_decoder,
        images.diffusion,
        images.keypoints,
        attention.shifted_windows,
        attention.gpt,
        attention.llama,
        attention.mixture_of_experts,
        attention.translator,
        others.message_passing,
        others.graph_attention,
        others.spectral_convolution,
        others.recommender,
        others.capsules,
        others.splines,
        others.point_cloud,
        others.dynamic_control_flow,
    )
}

REFUSED = ("dynamic_control_flow",)
"""What torch.export refuses, by design of these tests."""
