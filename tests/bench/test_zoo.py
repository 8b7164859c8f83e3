"""The zoo: the models that the benchmark promises, the same ones every time."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import nn
from torch.utils import _pytree

from tpopt.bench.suites import load_suite

SHAPES = {
    "resnet18": ([(1, 3, 224, 224)], [(1, 1000)]),
    "dcgan": ([(16, 100, 1, 1)], [(16, 3, 64, 64)]),
    "infogan": ([(16, 228, 1, 1)], [(16, 3, 32, 32)]),
    "fsrcnn": ([(1, 1, 256, 256)], [(1, 1, 1024, 1024)]),
    "gcn": (
        [(1, 2048, 7, 7), (1, 1024, 14, 14), (1, 512, 28, 28), (1, 256, 56, 56)],
        [(1, 21, 7, 7), (1, 21, 14, 14), (1, 21, 28, 28), (1, 21, 56, 56)],
    ),
    "csrnet": ([(1, 3, 128, 128)], [(1, 1, 16, 16)]),
    "longformer": ([(1, 1024, 512)], [(1, 1024, 512)]),
    "fno2d": ([(4, 3, 64, 64)], [(4, 1, 64, 64)]),
    "bert": ([(1, 128, 768)], [(1, 128, 768)]),
    "mace": ([(512, 64, 9), (512, 10)], [(512, 64)]),
    "mobilenet_v2": ([(1, 3, 160, 160)], [(1, 1000)]),
    "vit_s16": ([(1, 3, 224, 224)], [(1, 1000)]),
    "gpt2_prefill": ([(1, 128)], [(1, 128, 768), *[(1, 12, 128, 64)] * 8]),
    "gpt2_decode": ([(1, 1), *[(1, 12, 512, 64)] * 8], [(1, 1, 768), *[(1, 12, 513, 64)] * 8]),
}


def shapes(tree: object) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in _pytree.tree_leaves(tree)]


def test_the_zoo_holds_these_models_in_this_order():
    assert list(load_suite("zoo")) == list(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_has_its_shapes_and_finite_outputs(name):
    model, inputs = load_suite("zoo")[name]()
    with torch.no_grad():
        outputs = model(*inputs)
    assert (shapes(inputs), shapes(outputs)) == SHAPES[name]
    assert all(bool(leaf.isfinite().all()) for leaf in _pytree.tree_leaves(outputs))
    assert not any(part.training for part in model.modules())
    assert {p.dtype for p in model.parameters()} <= {torch.float32, torch.complex64}


@pytest.mark.parametrize("name", ["resnet18", "fsrcnn", "gpt2_decode", "mace"])
def test_a_model_is_the_same_every_time_and_leaves_the_random_state_alone(name):
    factory = load_suite("zoo")[name]
    before = torch.get_rng_state()
    (first, first_inputs), _ = factory(), torch.randn(1)
    torch.set_rng_state(before)
    second, second_inputs = factory()
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(
        [*first.state_dict().values(), *_pytree.tree_leaves(first_inputs)],
        [*second.state_dict().values(), *_pytree.tree_leaves(second_inputs)],
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_a_compiler_could_fold_away_is_not_trivial():
    resnet, fsrcnn = (load_suite("zoo")[name]()[0] for name in ("resnet18", "fsrcnn"))
    norms = [part for part in resnet.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 20
    slopes = [part.weight for part in fsrcnn.modules() if isinstance(part, nn.PReLU)]
    assert len(slopes) == 7
    learned = [(norm.running_mean, norm.running_var, norm.weight, norm.bias) for norm in norms]
    assert min(float(values.detach().std()) for values in [*slopes, *chain(*learned)]) > 0.05
