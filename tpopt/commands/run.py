"""``tpopt run``: one call of a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpopt.commands.compiling import AsJson, Seed
from tpopt.commands.inspect import SavedArgument
from tpopt.commands.output import emit, emit_json, stdout_is_stderr
from tpopt.errors import UsageError

if TYPE_CHECKING:
    import torch

    from tpopt._saved.load import SavedModel

Inputs = Annotated[
    Path | None, typer.Option(help="safetensors with one tensor for each input, by its name in tpopt inspect.")
]
Outputs = Annotated[Path | None, typer.Option("--out", "-o", help="Write the results here, as safetensors.")]


def run(
    file: SavedArgument, *, inputs: Inputs = None, out: Outputs = None, seed: Seed = 0, as_json: AsJson = False
) -> None:
    """Run a saved model once.

    On the inputs of a file, else on the example inputs that it was saved with, else on random ones. Prints type, shape
    and range of each result, or writes the results.
    """
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    with stdout_is_stderr():
        results = _results(file, inputs, seed)
        rows = [_row(name, value) for name, value in results.items()]
        if out is not None:
            _write(out, results)
    if as_json:
        emit_json({"file": str(file), "results": rows})
        return
    from tpopt.report.render import table

    cells = [(r["name"], r["type"], str(r["shape"]), f"{r['low']:g}", f"{r['high']:g}", r["sha256"]) for r in rows]
    emit(table(("result", "type", "shape", "least", "greatest", "sha256"), cells).rstrip("\n"))


def _results(file: Path, inputs: Path | None, seed: int) -> dict[str, torch.Tensor]:
    import torch
    from torch.utils import _pytree as pytree

    import tpopt
    from tpopt._saved.load import read
    from tpopt._saved.targets import arguments, example_tensors

    saved = read(file)
    tensors = example_tensors(saved, seed) if inputs is None else _given(saved, inputs)
    args, kwargs = arguments(saved, tensors)
    found = pytree.tree_leaves(tpopt.load(file)(*args, **kwargs))
    return {f"result{n}": torch.as_tensor(v) for n, v in enumerate(found) if isinstance(v, (torch.Tensor, int, float))}


def _given(saved: SavedModel, path: Path) -> list[torch.Tensor]:
    from tpopt._saved.tensors import declared, decode_tensors

    try:
        data = bytearray(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    wanted = saved.guard.inputs
    found = declared(decode_tensors(data, str(path)), wanted, str(path))
    missing = [t.name for t in wanted if t.name not in found]
    if missing:
        raise UsageError(f"{path} has no tensor {missing[0]}; the model takes {', '.join(map(repr, wanted))}")
    return [found[t.name].to(saved.device) for t in wanted]


def _row(name: str, value: torch.Tensor) -> dict[str, Any]:
    import hashlib

    from tpopt._saved.tensors import encode_tensors

    real = value.abs() if value.is_complex() else value.double()
    low, high = (float(real.min()), float(real.max())) if value.numel() else (0.0, 0.0)
    kind = str(value.dtype).removeprefix("torch.")
    digest = hashlib.sha256(encode_tensors({"": value})).hexdigest()[:16]
    return {"name": name, "type": kind, "shape": list(value.shape), "low": low, "high": high, "sha256": digest}


def _write(path: Path, results: dict[str, torch.Tensor]) -> None:
    from tpopt._saved.tensors import encode_tensors
    from tpopt.store.whole import write_whole

    write_whole(path, encode_tensors(results))
