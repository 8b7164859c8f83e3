"""Whether a compiled model agrees with torch, judged by the same model in float64; the smallest one that does not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace

import torch
from fuzz.models import Model, Recipe

import tpopt

SLACK = 2e-5
"""Relative L2 error that is nobody's fault: sums of a few thousand terms in float32, in two orders."""


def disagreement(recipe: Recipe, **options: object) -> str | None:
    """What is wrong with the compiled model of a recipe; ``None`` where it agrees."""
    model, inputs = Model(recipe), recipe.inputs()
    chosen = {"choice": "model", "gate": False, "verify": False, "kernels": "library", "effort": 30.0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.no_grad():
            expected = model(*inputs)
        try:
            compiled = tpopt.compile(model, inputs, **chosen)  # type: ignore[arg-type]
            rounds = [compiled(*inputs) for _ in range(2)]  # the second run goes through the arena
        except Exception as error:  # noqa: BLE001 - any at all is what is looked for
            return f"{type(error).__name__}: {error}"
        exact = _in_double(model, inputs)
    for found in rounds:
        for number, (got, want) in enumerate(zip(found, expected, strict=True)):
            wrong = _wrong(got, want, None if exact is None else exact[number])
            if wrong is not None:
                return f"result {number}: {wrong}"
    return None


def _in_double(model: Model, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
    if any(s.name in ("one_hot", "argmax", "floor", "round", "sign", "compared") for s in model.recipe.steps):
        return None  # what jumps may jump elsewhere in another precision; one_hot is float32 by name
    wide = Model(model.recipe).double()
    with torch.no_grad():
        found: tuple[torch.Tensor, ...] = wide(*(i.double() if i.is_floating_point() else i for i in inputs))
    return found


def _wrong(got: torch.Tensor, want: torch.Tensor, exact: torch.Tensor | None) -> str | None:
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return f"{got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    if not want.is_floating_point():
        differ = int((got != want).sum())
        return f"{differ} of {want.numel()} integers differ" if differ else None
    if not torch.equal(got.isfinite(), want.isfinite()):
        return "values that are not finite stand elsewhere"
    finite = want.isfinite()
    judge = (want if exact is None else exact)[finite].double()
    error, own = (got[finite].double() - judge).norm(), (want[finite].double() - judge).norm()
    scale = max(float(judge.norm()), 1e-3 * math.sqrt(max(judge.numel(), 1)))
    if float(error) > max(4 * float(own), SLACK * scale):
        return f"relative L2 error {float(error) / scale:.3g}; torch's own is {float(own) / scale:.3g}"
    return None


def reduced(recipe: Recipe, **options: object) -> Recipe:
    """The smallest recipe that still disagrees: results, steps and sizes are taken away while it does."""
    shrinking = True
    while shrinking:
        shrinking = False
        for smaller in _smaller(recipe):
            try:
                fails = disagreement(smaller, **options) is not None
                Model(smaller)(*smaller.inputs())
            except (RuntimeError, ValueError, IndexError, TypeError):
                continue
            if fails:
                recipe, shrinking = smaller, True
                break
    return recipe


def _smaller(recipe: Recipe) -> Iterator[Recipe]:
    if len(recipe.results) > 1:
        for kept in recipe.results:
            yield replace(recipe, results=(kept,))
    first = len(recipe.given)
    for number in reversed(range(len(recipe.steps))):
        step = recipe.steps[number]
        for stand_in in (*step.reads, None):
            yield from _without(recipe, first + number, stand_in)
    for number in range(first):
        if not any(number in s.reads for s in recipe.steps) and number not in recipe.results:
            yield from _without(recipe, number, None)


def _without(recipe: Recipe, gone: int, stand_in: int | None) -> Iterator[Recipe]:
    """The recipe without a value; what read it reads ``stand_in``, or may not exist."""

    def moved(number: int) -> int:
        return number - (number > gone) if number != gone else -1 if stand_in is None else stand_in

    first = len(recipe.given)
    given = tuple(g for n, g in enumerate(recipe.given) if n != gone)
    steps = tuple(replace(s, reads=tuple(map(moved, s.reads))) for n, s in enumerate(recipe.steps, first) if n != gone)
    results = tuple(dict.fromkeys(map(moved, recipe.results)))
    if not any(-1 in s.reads for s in steps) and -1 not in results and any(r >= len(given) for r in results):
        yield Recipe(given, steps, results)
