"""The symmetric contraction of MACE (Batatia et al., 2022): products of atomic features up to the third order."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from zoo.seeding import Example, seeded, settle


class SymmetricContraction(nn.Module):
    """Features N×channels×components and elements N×E (one-hot) to invariants N×channels.

    Contracts constant tensors that are symmetric in their component axes, order by order, the highest first (Horner's
    scheme), with weights that each element learns for each path and channel.
    """

    def __init__(self, channels: int = 64, components: int = 9, paths: int = 8, elements: int = 10) -> None:
        super().__init__()
        for order in (1, 2, 3):
            self.register_buffer(f"u{order}", _symmetric(components, order, paths))
            self.register_parameter(f"w{order}", nn.Parameter(torch.randn(elements, paths, channels) / paths))

    def forward(self, x: Tensor, elements: Tensor) -> Tensor:
        y = torch.einsum("wvik,ekc,bci,be->bcwv", self.u3, self.w3, x, elements)
        y = y + torch.einsum("wvk,ekc,be->bcwv", self.u2, self.w2, elements)
        y = torch.einsum("bcwi,bci->bcw", y, x)
        y = y + torch.einsum("wk,ekc,be->bcw", self.u1, self.w1, elements)
        return torch.einsum("bci,bci->bc", y, x)


def _symmetric(components: int, order: int, paths: int) -> Tensor:
    """Draws a tensor components^order × paths that no permutation of the component axes changes."""
    u = torch.randn(*[components] * order, paths)
    same = [u.permute(*axes, order) for axes in permutations(range(order))]
    return torch.stack(same).mean(0) / components ** (order / 2)


def mace() -> Example:
    """Orders 1 to 3 on 512 atoms with 64 channels of 9 components, 8 paths, 10 elements."""
    with seeded(512):
        model = SymmetricContraction()
        kinds = torch.randint(10, (512,))
        return settle(model), (torch.randn(512, 64, 9), torch.nn.functional.one_hot(kinds, 10).float())
