"""``tpopt verify``: whether two models compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpopt.commands import compiling as asked
from tpopt.commands.output import emit, emit_json, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.errors import UnsupportedInput, VerificationFailed

if TYPE_CHECKING:
    from tpopt.verify import Verification

First = Annotated[str, typer.Argument(metavar="A", help="The model to trust: FILE.py:FUNCTION, FILE.tpg, .pt2.")]
Second = Annotated[
    str | None,
    typer.Argument(metavar="[B]", help="The model in question; a .tpg runs its plan. Default: A's own plan."),
]
Seconds = Annotated[float, typer.Option(help="After this long no further kind of inputs is begun.", min=0.0)]


def verify(
    a: First,
    b: Second = None,
    *,
    tolerance: asked.Tolerance = 1e-5,
    strict: asked.Strict = False,
    seed: asked.Seed = 0,
    seconds: Seconds = 60.0,
    trust: asked.Trust = False,
    as_json: asked.AsJson = False,
) -> None:
    """Check that two models compute the same.

    On A's example inputs, on random ones and on ones that are hard to get right, with A's algebra in float64 as the
    judge. Ends with 4 where they do not agree.
    """
    for spec in dict.fromkeys((a, b or a)):
        asked.announce(spec, trust=trust)
    with stdout_is_stderr():
        result = _compared(a, b or a, tolerance=tolerance, strict=strict, seed=seed, seconds=seconds, trust=trust)
    if as_json:
        emit_json(result.to_dict())
    else:
        emit(str(result))
    if not result.passed:
        raise VerificationFailed(f"{b or a} does not compute what {a} computes")


def _compared(
    a: str, b: str, *, tolerance: float, strict: bool, seed: int, seconds: float, trust: bool
) -> Verification:
    from torch.utils import _pytree as pytree

    from tpopt._compile.door import positional
    from tpopt.frontend.trace import trace
    from tpopt.verify import check

    target = load_target(a, trust=trust)
    args, kwargs = positional(target.inputs), dict(target.kwargs or {})
    traced = trace(target.model, args, kwargs)
    if traced.states:
        raise UnsupportedInput(f"{a} updates its buffers with each call, so two runs of it differ by themselves")
    leaves, spec = pytree.tree_flatten((args, kwargs))

    def of(model: Callable[..., Any]) -> Callable[..., Any]:
        def run(*tensors: Any) -> Any:
            given = iter(tensors)
            filled = [v if n is None else next(given) for v, n in zip(leaves, traced.inputs, strict=True)]
            positions, keywords = pytree.tree_unflatten(filled, spec)
            return model(*positions, **keywords)

        return run

    examples = [v.detach() for v, n in zip(leaves, traced.inputs, strict=True) if n is not None]
    return check(
        of(target.model), of(_candidate(b, trust=trust)), traced.algebra, seed=seed, tolerance=tolerance,
        example_inputs=examples, strict=strict, seconds=seconds,
    )  # fmt: skip


def _candidate(spec: str, *, trust: bool) -> Callable[..., Any]:
    """What is in question: the plan of a saved model, or any other model as it is."""
    if spec.endswith(".tpg"):
        import tpopt

        return tpopt.load(spec)
    model: Callable[..., Any] = load_target(spec, trust=trust).model
    return model
