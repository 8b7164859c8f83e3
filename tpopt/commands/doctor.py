"""``tpopt doctor``: versions, threads, tools; what is missing, and what to do about it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tpopt.commands import checks
from tpopt.commands.checks import Check
from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json, stdout_is_stderr
from tpopt.report.environment import CHANGE_SPEED, usable_cores

VARIABLES: Final[Mapping[str, str]] = {
    "TPOPT_TRACEBACK": "1: every error comes with its traceback, as with tpopt --traceback",
    "NO_COLOR": "any text: no colours on stderr",
    "TPOPT_LOGS": "stages to follow on stderr: choose,+verify (details), -race (errors alone), all",
    "TPOPT_TRACE": "folder for a trace of each process, one JSON object a line",
    "TPOPT_CUBINS": "folder of kernels for GPUs that tpopt cubins --out made, elsewhere perhaps; docs/cuda.md",
    "TPOPT_CACHE_DIR": "folder of the cache; docs/cache.md",
    "XDG_CACHE_HOME": "folder above the cache, where TPOPT_CACHE_DIR is not set",
    **dict.fromkeys(CHANGE_SPEED, "changes how fast kernels run; recorded in every report"),
}
"""The variables of the environment that tpopt reads, and what they do."""

Env = Annotated[bool, typer.Option("--env", help="Also list the variables of the environment that matter.")]


def doctor(as_json: AsJson = False, env: Env = False) -> None:
    """Check this machine and installation.

    Versions, processor, threads, tools and cache; each row says what to do where something is wrong.
    """
    with stdout_is_stderr():
        rows = examine()
    if as_json:
        data: dict[str, Any] = {"checks": [dataclasses.asdict(row) for row in rows]}
        emit_json({**data, "variables": variables()} if env else data)
        return
    emit(_text(rows, variables() if env else []))


def examine() -> list[Check]:
    """Returns every row, in the order in which a person would look."""
    from tpopt.store.folder import cache_root

    cores = usable_cores()
    return [
        checks.python(),
        *checks.requirements(checks.own_requirements()),
        checks.cpu(),
        checks.cores(),
        checks.load(os.getloadavg()[0], cores),
        checks.governor(),
        checks.openmp(os.environ, cores),
        *_seen_by_torch(cores),
        checks.compiler(os.environ),
        checks.cache(cache_root()),
    ]


def variables() -> list[dict[str, str | None]]:
    """Returns name, value (null when unset) and meaning of every variable that tpopt reads."""
    return [{"name": n, "value": os.environ.get(n), "meaning": meaning} for n, meaning in VARIABLES.items()]


def _seen_by_torch(cores: int) -> list[Check]:
    driver = Path("/dev/nvidiactl").exists()
    try:
        import torch

        from tpopt.backend.cuda import compilers
    except (ImportError, OSError) as error:  # OSError: a shared library of it does not load
        return [Check("torch threads", "unknown", "warn", f"torch does not import: {error}")]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    maps = _maps()
    return [
        checks.threads(torch.get_num_threads(), cores),
        balance(),
        checks.openmp_runtimes(maps),
        checks.allocator(maps),
        _launcher(),
        checks.gpu(names, driver=driver),
        checks.cuda_compiler(compilers.description(), needed=driver),
    ]


def _launcher() -> Check:
    """Says whose threads generated kernels run on."""
    from tpopt.backend.native.launcher import launcher_status

    status = launcher_status()
    return checks.check("generated kernels", status.kind, warn=status.kind != "shared", advice=status.reason)


def balance(records: Path | None = None) -> Check:
    """Shows what the processor does in a microsecond, as the records have it or as measured now (under a second)."""
    import torch

    from tpopt.backend.machine import known_balance, machine_fingerprint
    from tpopt.cost_models.roofline import Balance
    from tpopt.store.records import Records

    device = torch.device("cpu")
    found = known_balance(device, Records(records, machine_fingerprint(device))) or Balance()
    value = (
        f"{found.macs_per_us / 1e3:.0f} GMAC/s, {found.bytes_per_us / 1e3:.0f} GB/s, "
        f"{found.call_us:.1f} µs a call, {found.primitive_us:.1f} µs a oneDNN primitive"
    )
    assumed = found == Balance()
    advice = "other programs hold the cores, so these are assumed; run this again when they rest"
    return checks.check("balance", value, warn=assumed, advice=advice)


def _maps() -> str:
    file = Path("/proc/self/maps")
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def _text(rows: list[Check], listed: list[dict[str, str | None]]) -> str:
    from tpopt.report.render import counted, table

    warnings = sum(row.status == "warn" for row in rows)
    lines = [("", row.status, row.name, f"{row.value}{f'  -> {row.advice}' if row.advice else ''}") for row in rows]
    text = f"{table(('status', 'check', 'found'), [line[1:] for line in lines])}\n{counted(warnings, 'warning')}"
    if not listed:
        return text
    cells = [(str(v["name"]), "(unset)" if v["value"] is None else v["value"], str(v["meaning"])) for v in listed]
    return f"{text}\n\n{table(('variable', 'value', 'meaning'), cells)}".rstrip("\n")
