"""The nets that precisions are tried on: the same every time, tested on what they have not seen, outliers planted."""

from __future__ import annotations

import pytest
import torch
from support.quantized import digits, layers, narrow, with_activations, with_weights


def untrained(name: str) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return digits.NETS[name]().eval().requires_grad_(requires_grad=False)


def test_every_sample_is_tested_once():
    tests = torch.cat([test for _, test in digits.folds()])
    assert sorted(tests.tolist()) == list(range(1797))
    assert all(not set(train.tolist()) & set(test.tolist()) for train, test in digits.folds())


def test_a_seed_says_all_and_leaves_the_callers_random_state():
    rows, state = torch.arange(256), torch.random.get_rng_state()
    one, other = (digits.trained(digits.NETS["perceptron"], rows, epochs=1) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(one[1].weight, digits.trained(digits.NETS["perceptron"], rows, epochs=1, seed=1)[1].weight)


@pytest.mark.parametrize("name", digits.NETS)
def test_outliers_keep_the_function_and_widen_the_weights(name: str):
    model, images = untrained(name).double(), digits.digits()[0][:32].double()
    planted = digits.with_outliers(name, model)
    assert torch.allclose(planted(images), model(images), rtol=1e-12, atol=1e-14)
    for first, _ in digits.HIDDEN[name]:
        ranges = [m.get_submodule(first).weight.abs().flatten(1).amax(1) for m in (planted, model)]
        factors = ranges[0] / ranges[1]
        assert ((factors > 9.99) & (factors < 60.01)).sum() == max(1, round(0.06 * len(factors)))


@pytest.mark.parametrize(("name", "count"), [("perceptron", 6), ("convolution", 8), ("attention", 14)])
def test_every_layer_is_quantized_and_the_net_is_left_alone(name: str, count: int):
    model, images = untrained(name), digits.digits()[0][:8]
    before = {n: p.clone() for n, p in model.named_parameters()}
    changed = with_activations(with_weights(model, dict.fromkeys(layers(model), 4)), images, 4)
    assert len(layers(model)) == count
    assert all(len(m.weight[0].unique()) <= 15 for m in map(changed.get_submodule, layers(model)))
    assert torch.equal(changed.get_submodule(layers(model)[0]).weight, narrow(before[f"{layers(model)[0]}.weight"], 4))
    assert not torch.equal(changed(images), with_weights(model, dict.fromkeys(layers(model), 4))(images))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
