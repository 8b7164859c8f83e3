"""Weights and example inputs as safetensors: numbers alone, checked against the program that names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from tpopt.errors import CorruptFile
from tpopt.ir import Tensor
from tpopt.ir.aten import torch_dtype


def encode_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The tensors in the order of their names; complex numbers as pairs. Equal tensors give equal bytes."""
    return save({n: _plain(tensors[n]) for n in sorted(tensors)})


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    value = tensor.detach().resolve_conj().resolve_neg().cpu()
    value = torch.view_as_real(value) if value.is_complex() else value
    return value.clone(memory_format=torch.contiguous_format)  # no two members may share memory


def decode_tensors(data: bytearray, where: str) -> dict[str, torch.Tensor]:
    """Tensors by name, as they stand in the file. Raises :class:`CorruptFile`."""
    try:
        return load(bytes(data))
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CorruptFile(f"{where} is not safetensors: {error}") from error


def declared(found: Mapping[str, torch.Tensor], wanted: Iterable[Tensor], where: str) -> dict[str, torch.Tensor]:
    """Those of ``wanted`` that were found, with the types that the program declares.

    Raises :class:`CorruptFile` where type or shape differ.
    """
    result = {}
    for tensor in wanted:
        if tensor.name not in found:
            continue
        value = found[tensor.name]
        if tensor.dtype.is_complex and value.dim() and value.shape[-1] == 2 and value.is_floating_point():
            value = torch.view_as_complex(value)
        fixed = all(isinstance(e, int) for e in tensor.shape)
        if value.dtype is not torch_dtype(tensor.dtype) or (fixed and tuple(value.shape) != tensor.shape):
            raise CorruptFile(
                f"{where}: {tensor.name} is {str(value.dtype).removeprefix('torch.')}{list(value.shape)}, "
                f"and the program declares {tensor!r}"
            )
        result[tensor.name] = value
    return result
