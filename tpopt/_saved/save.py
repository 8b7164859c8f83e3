"""Writes a compiled model as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

import tpopt
from tpopt._saved.known import content_key, remember
from tpopt._saved.records import (
    FORMAT,
    Interface,
    Manifest,
    SizeRow,
    StateRow,
    StepRow,
    Steps,
    encode,
    member_rows,
)
from tpopt._saved.tensors import encode_tensors
from tpopt._saved.trees import print_tree
from tpopt.backend.machine import machine_fingerprint
from tpopt.backend.plan import Plan
from tpopt.errors import UnsupportedModel, UsageError
from tpopt.ir import Guard, Opaque, Program
from tpopt.ir.aten import from_numpy
from tpopt.ir.text import print_program, print_stage
from tpopt.report import Report
from tpopt.runtime.compiled import Signature
from tpopt.store.archive import MANIFEST, write_archive

SUFFIX: Final = ".tpg"
RESULTS, FIXED, REQUIRES = "results", "fixed", "requires"
_PLAIN: Final = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Saveable:
    """What a compilation leaves for a file; ``plan`` is ``None`` where the original was handed out.

    ``algebra`` is the program after cleanup, ``weights`` holds the values of all tensors that a program calls a weight,
    ``states`` the values of those that calls update (``paths`` are their names in the model), ``examples`` the inputs
    of the example by name.
    """

    original: Program
    algebra: Program
    plan: Plan | None
    signature: Signature
    requires: Guard
    weights: Mapping[str, torch.Tensor]
    states: Mapping[str, torch.Tensor]
    paths: Mapping[str, str]
    sizes: Mapping[str, int]
    examples: Mapping[str, torch.Tensor]
    device: torch.device
    pipeline: str
    kernels: str


def save(saveable: Saveable, report: Report, path: str | Path, *, examples: bool = True) -> None:
    """Writes the file; one that was there is replaced when the new one is complete.

    Args:
        saveable: what to write.
        report: how it came about.
        path: ends in ``.tpg``.
        examples: keep the example inputs, with which the file is verified, timed and chosen again.

    Raises:
        UsageError: the path ends otherwise, or cannot be written.
        UnsupportedModel: inputs or results are of a type that a file cannot hold.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise UsageError(f"{target}: the name of a saved model ends in {SUFFIX}")
    members = _members(saveable, report, examples=examples)
    manifest = Manifest(
        format=FORMAT,
        tpopt=tpopt.__version__,
        model=saveable.original.name,
        status="original" if saveable.plan is None else "optimized",
        machine=machine_fingerprint(saveable.device),
        device=saveable.device.type,
        pipeline=saveable.pipeline,
        kernels=saveable.kernels,
        members=member_rows(members),
    )
    write_archive(target, {MANIFEST: encode(manifest), **members})
    remember(content_key(encode(manifest)))


def _members(saveable: Saveable, report: Report, *, examples: bool) -> dict[str, bytes]:
    plan = saveable.plan
    program = saveable.original if plan is None else plan.program
    values = {**_constants(saveable.algebra), **saveable.weights}
    needed = {w.name for w in program.weights} | set(saveable.states)
    others = {w.name for p in (saveable.original, saveable.algebra) for w in p.weights} - needed
    members = {
        "interface.json": encode(_interface(saveable)),
        "original.txt": print_program(saveable.original).encode(),
        "algebra.txt": print_program(saveable.algebra).encode(),
        "weights.safetensors": encode_tensors(
            {**{n: values[n] for n in sorted(needed) if n in values}, **saveable.states}
        ),
        "rest.safetensors": encode_tensors({n: values[n] for n in sorted(others) if n in values}),
        "certificate.json": encode(report.verification),
        "report.json": encode(report),
    }
    if plan is not None:
        steps = tuple(StepRow(s.kind, s.name) for s in plan.steps)
        members["plan.txt"] = print_program(plan.program).encode()
        members["steps.json"] = encode(Steps(steps))
    if examples:
        members["examples.safetensors"] = encode_tensors(saveable.examples)
    return members


def _constants(program: Program) -> dict[str, torch.Tensor]:
    dtypes = {w.name: w.dtype for w in program.weights}
    return {n: from_numpy(v, dtypes[n]) for n, v in program.constants.items() if n in dtypes}


def _interface(saveable: Saveable) -> Interface:
    signature = saveable.signature
    for value in (*signature.fixed, *signature.results):
        if name := _unprintable(value):
            raise UnsupportedModel(f"the inputs hold a value of type {name}, which a saved model cannot")
    requires = tuple((b.low, b.value, b.high) for b in saveable.requires.bounds)
    return Interface(
        inputs=print_tree(signature.in_spec, "inputs"),
        outputs=print_tree(signature.out_spec, "results"),
        leaves=signature.leaves,
        fixed=print_stage(Opaque((), FIXED, signature.fixed)),
        results=print_stage(Opaque((), RESULTS, signature.results)),
        requires=print_stage(Opaque((), REQUIRES, requires)),
        states=tuple(StateRow(n, saveable.paths[n]) for n in saveable.states),
        sizes=tuple(SizeRow(n, int(v)) for n, v in sorted(saveable.sizes.items())),
    )


def _unprintable(value: Any) -> str | None:
    from tpopt.ir import Index, Tensor

    return None if isinstance(value, (*_PLAIN, Index, Tensor)) else type(value).__name__
