"""``tpopt cubins``: a model's generated kernels compiled for a GPU, on a machine that need not have one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands.compiling import AsJson, TargetArgument, Trust, announce
from tpopt.commands.output import emit, emit_json, say, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.errors import KernelBuildFailed, UsageError

if TYPE_CHECKING:
    from tpopt._compile.cubins import Cubin

Arch = Annotated[str, typer.Option("--arch", help="Architecture of the GPU, as nvcc names it: sm_80, sm_90a.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the cubins and their sources.")]


def cubins(
    target: TargetArgument,
    *,
    arch: Arch = "sm_90a",
    out: Out = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Compile a model's kernels for a GPU, which need not be here.

    Needs nvcc, or NVRTC (pip install 'tpopt[cuda]'). Says what cannot be generated, and why.
    """
    from tpopt.backend.cuda import compilers
    from tpopt.backend.cuda.device import Device

    device = Device.of(arch)
    if (reason := compilers.obstacle()) is not None:
        raise KernelBuildFailed(reason)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {out}: {error.strerror}") from error
    announce(target, trust=trust)
    with stdout_is_stderr():
        import torch

        from tpopt._compile.cubins import cubins_of
        from tpopt.options import Options

        loaded = load_target(target, trust=trust)
        inputs = (loaded.inputs,) if isinstance(loaded.inputs, torch.Tensor) else tuple(loaded.inputs)
        found = cubins_of(loaded.model.eval(), inputs, loaded.kwargs or {}, Options(), device, out)
    if as_json:
        emit_json({"arch": arch, "kernels": [c.to_dict() for c in found]})
    else:
        emit(_table(found))
    failed = [c for c in found if c.reason]
    say(f"{len(found) - len(failed)} kernels compiled for {arch}, {len(failed)} values without one")


def _table(found: list[Cubin]) -> str:
    from tpopt.report.render import table

    head = ("blocks", "threads", "seconds", "kernel", "reason")
    rows = [
        (str(c.blocks or ""), str(c.threads or ""), f"{c.seconds:.2f}" if c.blocks else "", c.name, c.reason)
        for c in found
    ]
    return table(head, rows).rstrip("\n") if rows else "the model computes nothing that is generated"
