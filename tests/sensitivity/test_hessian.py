"""Second-order figures against exact Hessians of small models, and that measuring them leaves no trace."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.curvature import NETWORKS, blocks, data, exact, flat, objective
from torch import nn
from torch.nn import functional as f

from tpopt.errors import LimitExceeded, UnknownName, UsageError
from tpopt.frontend.trace import trace
from tpopt.rewrite import Trace, registry
from tpopt.sensitivity.first_order import InverseFisher, fisher_traces, noise_coefficients
from tpopt.sensitivity.hessian import (
    Estimate,
    activation_traces,
    diagonal,
    estimate,
    gradient,
    product,
    top_eigenvalue,
    traces,
)
from tpopt.sensitivity.objective import Objective
from tpopt.sensitivity.pairs import changes


@pytest.mark.parametrize("name", NETWORKS)
def test_a_product_is_that_of_the_exact_hessian(name: str):
    o = objective(name)
    vector = {n: torch.randn_like(w) for n, w in o.weights.items()}
    want = exact(o) @ flat(vector)
    assert (flat(product(o, vector)) - want).norm() <= 1e-8 * want.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_batches_of_unequal_size_count_for_what_they_hold(name: str):
    o, whole = objective(name), objective(name)
    inputs = torch.cat([i[0] for i, _ in o.batches])
    whole = Objective(whole.forward, whole.weights, whole.loss, [((inputs,), torch.cat([t for _, t in o.batches]))])
    vector = {n: torch.randn_like(w) for n, w in o.weights.items()}
    for one, other in ((product(o, vector), product(whole, vector)), (gradient(o), gradient(whole))):
        assert (flat(one) - flat(other)).norm() <= 1e-10 * flat(other).norm()
    assert o.mean() == pytest.approx(whole.mean(), rel=1e-12)
    for n, found in traces(o, 4).items():
        assert found.mean == pytest.approx(traces(whole, 4)[n].mean, rel=1e-9)


def test_the_trace_and_its_interval_are_right():
    o = objective("perceptron", (16,))
    want = {n: float(b.trace()) for n, b in blocks(o, exact(o)).items()}
    inside = dict.fromkeys(want, 0)
    means: dict[str, list[float]] = {n: [] for n in want}
    for seed in range(20):
        for n, found in traces(o, 32, seed).items():
            low, high = found.interval()
            inside[n] += low <= want[n] <= high
            means[n].append(found.mean)
            assert found.data_error is None
    for n, found in means.items():
        error = np.std(found, ddof=1) / len(found) ** 0.5
        assert abs(np.mean(found) - want[n]) <= 4 * error + 1e-12
        assert inside[n] >= 16


@pytest.mark.acceptance
def test_the_interval_covers_as_often_as_it_says():
    o = objective("perceptron", (16,))
    want = {n: float(b.trace()) for n, b in blocks(o, exact(o)).items()}
    inside = dict.fromkeys(want, 0)
    for seed in range(50):
        for n, found in traces(o, 256, seed).items():
            inside[n] += found.interval()[0] <= want[n] <= found.interval()[1]
    assert all(43 <= count <= 50 for count in inside.values()), inside


def test_the_variance_of_a_probe_is_the_formula():
    o = objective("perceptron", (16,))
    hessian = exact(o)
    rows = np.array([sum(e.mean for e in traces(o, 1, seed).values()) for seed in range(200)])
    theory = 2 * float((hessian**2).sum() - (hessian.diagonal() ** 2).sum())
    assert 0.6 <= rows.var(ddof=1) / theory <= 1.6


def test_errors_of_probes_and_of_data_are_apart():
    found = estimate([[1.0, 3.0], [1.0, 3.0]], [0.5, 0.5])
    assert (found.mean, found.probe_error) == (2.0, 0.0)
    assert found.data_error == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    noise = [estimate(rng.standard_normal((4, 6)).tolist(), [1 / 6] * 6).data_error or 0.0 for _ in range(400)]
    assert np.mean(np.square(noise)) <= 0.02  # 0.25 / 6 = 0.042 were it all laid to the data's charge, which has none
    found = estimate([[1.0, 1.0], [3.0, 3.0]], [0.5, 0.5])
    assert (found.probe_error, found.data_error) == (pytest.approx(1.0), 0.0)
    assert Estimate(1.0, None, None, 1).error is None


@pytest.mark.parametrize("name", NETWORKS)
def test_the_diagonal_and_the_largest_eigenvalue(name: str):
    o = objective(name, (9,))
    hessian = exact(o)
    values = torch.linalg.eigvalsh(hessian)
    want = float(values[values.abs().argmax()])
    assert top_eigenvalue(o) == pytest.approx(want, rel=1e-5)
    weight, block = next((n, b) for n, b in blocks(o, hessian).items() if len(b) > 3)
    own = torch.linalg.eigvalsh(block)
    assert top_eigenvalue(o, weight) == pytest.approx(float(own[own.abs().argmax()]), rel=1e-5)
    found = flat(diagonal(o, 100))
    assert (found - hessian.diagonal()).norm() <= 0.25 * hessian.norm()


def test_an_eigenvalue_that_is_not_found_says_so():
    with pytest.raises(LimitExceeded, match="tolerance=0 after 1 restarts; give it more of them"):
        top_eigenvalue(objective("perceptron"), tolerance=0.0, restarts=1)


def test_a_loss_without_curvature_has_eigenvalue_zero():
    x = torch.ones(4, 6, dtype=torch.float64)
    flat, bent = (Objective.of_module(nn.Linear(6, 2).double(), loss, [((x,), x)]) for loss in (mean_of, log_of))
    assert top_eigenvalue(flat) == 0.0
    with pytest.raises(UsageError, match="a product with its Hessian is not finite"):
        top_eigenvalue(bent)


def mean_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.mean()


def log_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs * 0).log().mean()


def test_activation_traces_are_those_of_each_sample():
    o = objective("perceptron")
    found = activation_traces(o, ["1"], probes=200)["1"]
    model, _ = NETWORKS["perceptron"]
    want = total = 0.0
    for (x,), labels in o.batches:
        for k in range(len(x)):
            hidden = model[1](model[0](x[k : k + 1])).detach()
            block = torch.autograd.functional.hessian(
                lambda a, k=k, labels=labels: f.cross_entropy(model[2](a), labels[k : k + 1]), hidden
            )
            want += float(block.reshape(8, 8).trace())
            total += 1
    assert found.probe_error is not None
    assert abs(found.mean - want / total) <= 4 * found.probe_error
    assert found.data_error is not None
    with pytest.raises(UnknownName, match="value"):
        activation_traces(o, ["nothing"])


def test_it_works_on_a_program_as_it_was_rewritten():
    model, shape = NETWORKS["convolution"]
    model = model.float()
    try:
        batches = [((i[0].float(),), t) for i, t in data(shape, (9, 9))]
        program = registry().parse("default").run(trace(model.eval(), batches[0][0]).algebra, Trace())
        o = Objective.of_program(program, lambda out, t: f.cross_entropy(out[0], t), batches)
        assert any(w.rank == 4 for w in program.weights)
        found = traces(o, 8)
        assert set(found) == set(o.weights)
        assert all(np.isfinite(e.mean) for e in found.values())
        plain = Objective.of_module(model, f.cross_entropy, batches)
        assert o.mean() == pytest.approx(plain.mean(), rel=1e-5)
        last = next(n for n, w in o.weights.items() if w.shape == (3, 27))
        assert found[last].mean == pytest.approx(traces(plain, 8)["4.weight"].mean, rel=0.5)
        assert activation_traces(o, probes=2)
    finally:
        model.double()


@pytest.mark.parametrize("measure", [traces, diagonal, activation_traces, lambda o, **_: fisher_traces(o)])
def test_nothing_is_left_changed(measure: Callable[..., object]):
    model, shape = NETWORKS["convolution"]
    model.train()
    state = {n: t.clone() for n, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    o = Objective.of_module(model, f.cross_entropy, data(shape))
    random = torch.random.get_rng_state()
    first, second = (measure(o, probes=3, seed=5) for _ in range(2))
    assert str(first) == str(second)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_hundred_calls_leave_no_tensor_behind():
    o = objective("attention", (4,))

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects())

    traces(o, 1)
    activation_traces(o, probes=1)
    before = alive()
    for _ in range(50):
        traces(o, 1)
        activation_traces(o, probes=1)
    assert alive() <= before


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda o: traces(o, 0), "probes"),
        (lambda o: top_eigenvalue(o, "nobody"), "nobody"),
        (lambda o: changes(o, {("nobody", "a"): torch.zeros(1)}), "nobody"),
        (lambda o: changes(o, {("0.bias", "a"): torch.zeros(1)}), "shape"),
        (lambda o: noise_coefficients(o, sizes=()), "sizes"),
        (lambda o: InverseFisher(o, damping=0.0), "damping"),
        (lambda o: Objective(o.forward, {}, o.loss, o.batches), "weights"),
        (lambda o: Objective(o.forward, o.weights, o.loss, []), "batches"),
        (lambda o: Objective(o.forward, o.weights, lambda a, _: a, o.batches).mean(), "scalar"),
    ],
)
def test_a_wrong_question_is_refused(ask: Callable[[Objective], object], named: str):
    with pytest.raises(UsageError, match=named):
        ask(objective("perceptron"))


def test_inputs_may_be_a_tensor_and_gradients_switched_off():
    model, shape = NETWORKS["perceptron"]
    batches = data(shape)
    plain = Objective.of_module(model, f.cross_entropy, [(i[0], t) for i, t in batches])
    want = traces(objective("perceptron"), 2)
    assert plain.shares() == objective("perceptron").shares()
    with torch.no_grad():
        assert traces(plain, 2) == want
        assert activation_traces(plain, probes=1)
        assert fisher_traces(plain)
