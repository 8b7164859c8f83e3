"""Random models end to end; each defect that they found, as the smallest model that had it."""

from __future__ import annotations

import pytest
import torch
from fuzz.models import Given, Model, Recipe, Step, random_recipe
from fuzz.oracle import disagreement, reduced


@pytest.mark.parametrize("seed", range(40))
def test_random_models_agree_with_torch(seed: int):
    assert disagreement(random_recipe(seed)) is None


@pytest.mark.parametrize("seed", range(40, 44))
def test_random_models_by_generated_kernels_agree_with_torch(seed: int):
    assert disagreement(random_recipe(seed, steps=5), kernels="generated") is None


@pytest.mark.acceptance
@pytest.mark.parametrize("first", range(1000, 21_000, 500))
def test_twenty_thousand_models(first: int):
    wrong = {s: said for s in range(first, first + 500) if (said := disagreement(random_recipe(s))) is not None}
    assert wrong == {}


def test_a_recipe_is_the_same_every_time():
    one, two = random_recipe(7), random_recipe(7)
    assert one == two
    assert all(torch.equal(a, b) for a, b in zip(Model(one)(*one.inputs()), Model(two)(*two.inputs()), strict=True))


def test_a_wrong_model_is_reduced_to_the_step_that_is_wrong(monkeypatch: pytest.MonkeyPatch):
    recipe = Recipe(
        (Given((3, 4), torch.float32, 1), Given((4,), torch.float32, 2, weight=True)),
        (Step("relu", (0,)), Step("add", (2, 1)), Step("tanh", (3,)), Step("square", (4,)), Step("neg", (2,))),
        (5, 6),
    )
    monkeypatch.setattr(
        "fuzz.oracle.disagreement", lambda r, **_: "wrong" if any(s.name == "tanh" for s in r.steps) else None
    )
    small = reduced(recipe)
    assert ([s.name for s in small.steps], small.results, len(small.given)) == (["tanh"], (1,), 1)


FOUND = {
    "a square of a mean, summed once more": Recipe(
        (Given((1, 3, 4, 9), torch.float32, 484612127),),
        (Step("var", (0,), ((1,),)), Step("permute", (1,), ((1, 0, 2),))),
        (2,),
    ),
}


@pytest.mark.parametrize("kernels", ["library", "generated"])
@pytest.mark.parametrize("what", FOUND)
def test_what_was_wrong_once(what: str, kernels: str):
    assert disagreement(FOUND[what], kernels=kernels) is None
