"""``tpopt repro``: what a bug report needs, without the user's code: a saved model, and a script that compiles it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tpopt.commands import compiling as asked
from tpopt.commands.output import emit, emit_json, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.errors import UsageError
from tpopt.options import Options

Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the two files; it is made.")]
Weights = Annotated[bool, typer.Option("--random-weights", help="Replace weights and inputs by random numbers.")]

NAMED: Final = ("effort", "choice", "kernels", "pipeline", "exclude", "seed", "verify", "gate")
"""Options that the script repeats."""
SCRIPT: Final = '''\
"""{title}

{environment}
Run:  python {script}
"""

import torch

import tpopt
from tpopt._saved.load import read
from tpopt._saved.targets import arguments, example_tensors

saved = read({model!r})
args, kwargs = arguments(saved, example_tensors(saved))
model = saved.module().materialize()
with torch.no_grad():
    expected = torch.utils._pytree.tree_leaves(model(*args, **kwargs))

compiled = tpopt.compile(
    model,
    args,
    kwargs=kwargs,
    {options},
)
print(compiled.report)
found = torch.utils._pytree.tree_leaves(compiled(*args, **kwargs))
for number, (mine, theirs) in enumerate(zip(found, expected)):
    error = (mine.double() - theirs.double()).norm() / theirs.double().norm()
    print(f"result {{number}}: relative L2 difference {{error:.3g}}")
'''


def repro(
    target: asked.TargetArgument,
    *,
    out: Folder = Path("repro"),
    random_weights: Weights = False,
    effort: asked.Effort = "balanced",
    choice: asked.Choice = "measured",
    kernels: asked.Kernels = "all",
    pipeline: asked.Pipeline = "default",
    exclude: asked.Exclude = None,
    seed: asked.Seed = 0,
    trust: asked.Trust = False,
    as_json: asked.AsJson = False,
) -> None:
    """Write a script and a saved model for a bug report.

    The model becomes its ATen operators, without your code; --random-weights keeps its numbers to yourself as well. The
    script compiles it with these options and prints what differs.
    """
    from tpopt.rewrite.registry import registry

    options = asked.options_of(
        effort=effort, no_verify=True, no_gate=True, exclude=exclude, choice=choice, kernels=kernels,
        pipeline=pipeline, seed=seed,
    )  # fmt: skip
    registry().parse(options.pipeline)  # what does not exist is found out before anything is written
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: it is a file, expected a folder")
    asked.announce(target, trust=trust)
    with stdout_is_stderr():
        script, model = write_repro(target, options, out, trust=trust, random_weights=random_weights)
    if as_json:
        emit_json({"script": str(script), "model": str(model)})
    else:
        emit(f"python {script}")


def write_repro(
    spec: str, options: Options, folder: Path, *, trust: bool = False, random_weights: bool = False
) -> tuple[Path, Path]:
    """Writes both files and returns their paths. Raises :class:`UsageError` where they cannot be written."""
    import tpopt
    from tpopt.store.whole import write_whole

    target = load_target(spec, trust=trust)
    inputs, kwargs = target.inputs, dict(target.kwargs or {})
    if random_weights:
        inputs, kwargs = _randomized(target.model, inputs, kwargs, options.seed)
    quick = Options(choice="model", kernels="library", pipeline="none", verify=False, gate=False)
    kept = tpopt.compile(target.model, inputs, kwargs=kwargs, options=quick)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}") from error
    model, script = folder / "model.tpg", folder / "repro.py"
    kept.save(model)
    environment = kept.report.environment
    facts = [f"{p.name} {p.value}" for p in environment.packages] + [environment.platform, environment.cpu]
    text = SCRIPT.format(
        title=f"A model of {kept.report.work.macs_before or 0:,} multiply-accumulates, as its ATen operators.",
        environment="\n".join((f"tpopt {environment.tpopt}, python {environment.python}", *facts)),
        script=script.name, model=model.name,
        options=",\n    ".join(f"{name}={getattr(options, name)!r}" for name in NAMED),
    )  # fmt: skip
    write_whole(script, text.encode())
    return script, model


def _randomized(model: Any, inputs: Any, kwargs: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """Random numbers of the same spread in the place of every float parameter, buffer and input."""
    import torch
    from torch.utils import _pytree as pytree

    generator = torch.Generator().manual_seed(seed)

    def other(value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel()):
            return value
        spread = float(value.std()) if value.numel() > 1 else 1.0
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float32) * (spread or 1.0)
        return drawn.abs().to(value.dtype) if bool((value >= 0).all()) else drawn.to(value.dtype)

    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(other(tensor))
    return pytree.tree_map(other, inputs), pytree.tree_map(other, kwargs)
