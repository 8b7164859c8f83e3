"""What a measured time depends on: the machine, its threads, the versions of the libraries."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tpopt.store.records import fingerprint


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was asked to; nothing to wait for on the CPU."""
    return torch.cuda.synchronize if device.type == "cuda" else _nothing


def _nothing() -> None:
    return None


def machine_fingerprint(device: torch.device) -> str:
    """Text that differs where measurements do."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return fingerprint(name, torch.get_num_threads(), {"torch": torch.__version__})
