"""What a measured time depends on: the machine, its threads, the versions of the libraries."""

from __future__ import annotations

import torch

from tpopt.store.records import fingerprint


def machine_fingerprint(device: torch.device) -> str:
    """Text that differs where measurements do."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return fingerprint(name, torch.get_num_threads(), {"torch": torch.__version__})
