"""A Program as a plain differentiable torch function.

Shares nothing with the numpy interpreter, so that each can check the other. One file for each step of the way:
``function`` runs stages and binds symbols, ``compute`` writes one stage down as a ``tape`` of torch calls over tensors
with named axes, with ``indexing``, ``reads``, ``reductions``, ``contract`` and ``convolution`` for the kinds of terms;
``scatter`` and ``control`` hold the other stages.
"""

from __future__ import annotations

from tpopt.ir.to_torch.function import TorchFunction, to_torch

__all__ = ["TorchFunction", "to_torch"]
