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
    "the mean of windows of a vector": Recipe(
        (Given((2, 4, 3, 4), torch.float32, 182375978), Given((4,), torch.float32, 740245975, weight=True)),
        (Step("in_place", (0, 1)), Step("adaptive", (2,), ((2, 2),))),
        (3,),
    ),
    "the sum of a number over two axes": Recipe(
        (Given((1,), torch.float32, 585118853), Given((2, 1, 6, 8), torch.float32, 949738497)),
        (Step("lerp", (1, 0)), Step("sum", (2,), ((2, 3), False))),
        (3,),
    ),
    "rows of a table times a matrix": Recipe(
        (
            Given((2, 1), torch.int64, 1062529567, high=4),
            Given((4, 2), torch.float32, 219231343, weight=True),
            Given((2, 5), torch.float32, 934352531, weight=True),
        ),
        (Step("embedding", (0, 1)), Step("matmul", (3, 2))),
        (4,),
    ),
}


@pytest.mark.parametrize("kernels", ["library", "generated"])
@pytest.mark.parametrize("what", FOUND)
def test_what_was_wrong_once(what: str, kernels: str):
    assert disagreement(FOUND[what], kernels=kernels) is None
