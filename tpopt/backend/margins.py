"""Memory with room around it, so that what kernels read under a mask lies in memory that the process has.

A vector that is masked off is not read, but the processor has to find that out: where its place is no memory of the
process, by an assist of hundreds of cycles for each (measured: a depthwise convolution between two such pages took ten
times as long). At an image's border every padded convolution reads so, up to a few rows beyond its beginning and end.
"""

from __future__ import annotations

from typing import Final

import torch

MOST_BYTES: Final = 1 << 18
"""Of a margin: a few rows of an image."""
PAGE: Final = 4096


def margin_of(size: int) -> int:
    """Bytes on either side of so many: no padding is wider than the image."""
    return min(MOST_BYTES, -(-size // PAGE) * PAGE)


def with_margins(size: int, device: torch.device) -> torch.Tensor:
    """Uninitialised bytes, on a CPU with margins around them that have been touched, so that they are there."""
    if device.type != "cpu":
        return torch.empty(size, dtype=torch.uint8, device=device)
    margin = margin_of(size)
    whole = torch.empty(size + 2 * margin, dtype=torch.uint8)
    whole[:margin].zero_()
    whole[margin + size :].zero_()
    return whole[margin : margin + size]


def copied(value: torch.Tensor) -> torch.Tensor:
    """A dense tensor of a CPU in such memory, with the strides that it has; any other as it is."""
    order = sorted(range(value.dim()), key=value.stride, reverse=True)
    dense = value.layout is torch.strided and value.permute(order).is_contiguous()
    if value.device.type != "cpu" or not dense or not value.numel() or value.is_conj() or value.is_neg():
        return value
    room = with_margins(value.numel() * value.element_size(), value.device).view(value.dtype)
    return room.as_strided(value.shape, value.stride(), room.storage_offset()).copy_(value)
