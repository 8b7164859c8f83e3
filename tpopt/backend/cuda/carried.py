"""Cubins that were compiled elsewhere, in a folder that the user names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from tpopt.backend.cuda.request import CudaRequest

FOLDER: Final = "TPOPT_CUBINS"
"""The environment variable that names the folder."""


def carried_folder() -> Path | None:
    """The folder, if one is named."""
    name = os.environ.get(FOLDER, "")
    return Path(name) if name else None


def file_name(name: str, request: CudaRequest) -> str:
    """What the cubin of a request is called; ``name`` is for the reader."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{request.identity}.cubin"


def carried(request: CudaRequest) -> Path | None:
    """The cubin of a request, if the folder has it."""
    folder = carried_folder()
    return None if folder is None else next(iter(sorted(folder.glob(f"*-{request.identity}.cubin"))), None)
