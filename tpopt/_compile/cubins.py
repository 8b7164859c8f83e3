"""The kernels of a model for a GPU that need not be here: planned, compiled, and written to a folder."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tpopt.backend.build.pool import build_pool
from tpopt.backend.build.request import Built
from tpopt.backend.cuda.binding import request_of
from tpopt.backend.cuda.candidates import candidates
from tpopt.backend.cuda.carried import file_name
from tpopt.backend.cuda.device import Device
from tpopt.backend.cuda.request import CudaRequest
from tpopt.choose.candidate import Candidates
from tpopt.errors import KernelBuildFailed
from tpopt.frontend.trace import trace
from tpopt.ir import Kernel
from tpopt.options import Options
from tpopt.rewrite import Trace, forms, registry


@dataclass(frozen=True)
class Cubin:
    """One kernel for a GPU, or why there is none (``reason``).

    It computes the values that ``covers`` names, on ``blocks`` blocks of ``threads`` threads; ``file`` is where its
    cubin was written, if it was.
    """

    name: str
    covers: tuple[str, ...]
    blocks: int = 0
    threads: int = 0
    seconds: float = 0.0
    file: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def cubins_of(
    model: torch.nn.Module, args: Any, kwargs: dict[str, Any], options: Options, device: Device, out: Path | None = None
) -> list[Cubin]:
    """Every kernel that would be offered for a model on a card, compiled; what cannot be generated, with the reason.

    With ``out`` the cubins and their sources are written there, equal ones once.
    """
    traced = trace(model, args, kwargs, None)
    found = Candidates()
    programs = forms(registry().parse(options.pipeline), traced.algebra, Trace())
    for program in programs:
        candidates(program, found, device)
    offered = {c.key: c for c in found.admitted}
    requests = {k: request_of(c.stage) for k, c in offered.items() if isinstance(c.stage, Kernel)}
    pending = {k: build_pool().submit(r.build()) for k, r in requests.items()}
    made = [_made(offered[k].name, offered[k].covers, requests[k], pending[k], out) for k in offered]
    covered = {name for cubin in made for name in cubin.covers if not cubin.reason}
    refused = {
        r.name: Cubin(r.name, r.covers, reason=r.reason) for r in found.refused if not covered.issuperset(r.covers)
    }
    return [*made, *refused.values()]


def _made(name: str, covers: tuple[str, ...], request: CudaRequest, pending: Future[Built], out: Path | None) -> Cubin:
    try:
        built = pending.result()
    except KernelBuildFailed as error:
        return Cubin(name, covers, reason=str(error))
    plan, file = request.plan, ""
    if out is not None:
        file = file_name(name, request)
        (out / file).write_bytes(built.path.read_bytes())
        (out / file).with_suffix(".cu").write_bytes(built.metadata)
    return Cubin(name, covers, plan.blocks, plan.threads, built.seconds, file)
