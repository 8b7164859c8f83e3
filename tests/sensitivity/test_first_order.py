"""Fisher matrices, noise and pairs of changes against exact derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.curvature import exact, flat, objective
from torch import nn
from torch.nn import functional as f

from tpopt.errors import UnknownName
from tpopt.sensitivity.first_order import InverseFisher, fisher_traces, noise_coefficients, sample_gradients
from tpopt.sensitivity.hessian import gradient
from tpopt.sensitivity.objective import Objective
from tpopt.sensitivity.pairs import changes


def test_fisher_and_its_inverse():
    o = objective("perceptron")
    rows = torch.stack([flat(g) for g in sample_gradients(o)])
    assert torch.allclose(rows.mean(0), flat(gradient(o)))
    start = 0
    for n, found in fisher_traces(o).items():
        size = o.weights[n].numel()
        assert found == pytest.approx(float(rows[:, start : start + size].square().sum(1).mean()))
        start += size
    vector = {n: torch.randn_like(w) for n, w in o.weights.items()}
    dense = rows.T @ rows / len(rows) + 1e-3 * torch.eye(rows.shape[1], dtype=torch.float64)
    want = torch.linalg.solve(dense, flat(vector))
    got = flat(InverseFisher(o, damping=1e-3)(vector))
    assert (got - want).norm() <= 1e-8 * want.norm()
    with pytest.raises(UnknownName):
        InverseFisher(o)({})


def test_noise_tells_the_trace_without_a_backward_pass():
    torch.manual_seed(0)
    model = nn.Linear(6, 1, bias=False).double()
    x = torch.randn(64, 6, dtype=torch.float64)
    y = x @ model.weight.detach().T  # at the minimum: the loss is its quadratic form alone
    o = Objective.of_module(model, f.mse_loss, [((x,), y)])
    want = float(exact(o).trace()) / 2 * float(model.weight.detach().square().sum()) / 6
    found = np.mean([noise_coefficients(o, seed=s)["weight"] for s in range(60)])
    assert found == pytest.approx(want, rel=0.2)


def test_pairs_are_those_of_the_exact_hessian():
    o = objective("perceptron")
    deltas = {(n, c): s * torch.randn_like(w) for n, w in o.weights.items() for c, s in (("a", 0.1), ("b", 0.01))}
    found = changes(o, deltas)
    hessian, slope = exact(o), flat(gradient(o))
    whole = torch.stack(
        [flat({n: d if n == k else torch.zeros_like(w) for n, w in o.weights.items()}) for (k, _), d in deltas.items()]
    )
    assert np.allclose(found.second, (whole @ hessian @ whole.T).numpy(), rtol=1e-7, atol=1e-12)
    assert np.allclose(found.first, (whole @ slope).numpy())
    chosen = dict.fromkeys(o.weights, "b")
    moved = {n: w + deltas[n, "b"] for n, w in o.weights.items()}
    assert found.increase(chosen) == pytest.approx(o.mean(moved) - o.mean(), rel=0.05)
    alone = sum(found.increase({n: "b"}) for n in o.weights)
    assert found.increase(chosen, pairs=False) == pytest.approx(alone)
    with pytest.raises(UnknownName):
        found.increase({"0.weight": "c"})


def test_pairs_make_an_assignment():
    from tpopt.passes.precision.assignment import Resource, assign

    o = objective("perceptron")
    layers = [n for n, w in o.weights.items() if w.dim() == 2]
    slope = gradient(o)
    deltas = {(n, "coarse"): 0.2 * slope[n] / slope[n].norm() for n in layers}  # uphill
    found = changes(o, deltas)
    costs = tuple((1.0, 4.0) for _ in layers)
    problem = found.problem(layers, ("coarse", "as it is"), [Resource("bytes", costs, 5.0)])
    best = assign(problem)
    assert sorted(best.choices) == [0, 1]
    assert best.loss == pytest.approx(min(found.increase({n: "coarse"}) for n in layers))
