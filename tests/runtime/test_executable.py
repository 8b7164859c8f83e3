from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from support.plans import Bound, bound
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from tpopt.runtime.executable import ARENAS

X = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
LAYER = nn.Linear(128, 96)


def chain(x: torch.Tensor) -> torch.Tensor:
    """Four values of 32 KiB, of which two are alive at a time, and a small result."""
    return ((((x + 1) * 2).relu() - 3) * 4).sum()


def check(run: Bound, *args: torch.Tensor) -> None:
    for actual, expected in zip(run(*args), run.expected(*args), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_later_runs_equal_the_recording_run_and_torch():
    run = bound(lambda m, x: (m(x).relu() * 2, m(x).sum(1)), X, parts=(LAYER,))
    for seed in range(3):
        check(run, torch.randn(64, 128, generator=torch.Generator().manual_seed(seed)))


def test_values_that_are_never_alive_together_share_the_arena():
    run = bound(chain, X)
    check(run, X)
    assert run.executable.memory.arena_bytes == run.executable.memory.arena_lower_bound == 2 * X.nbytes
    assert run.executable.source.count("out=buffers[") == 4  # not relu, whose out= form allocates


def test_a_small_value_is_owned():
    run = bound(chain, X[:2])
    check(run, X[:2])
    assert run.executable.memory.arena_bytes == 0
    assert run.executable.memory.owned_peak_bytes == 2 * X[:2].nbytes


OUTPUTS: dict[str, Callable[..., Any]] = {
    "an input": lambda m, x: x,
    "a view of an input": lambda m, x: x.t()[:3],
    "a weight": lambda m, x: m.weight,
    "a view of a weight": lambda m, x: m.weight.t(),
    "the same twice": lambda m, x: ((y := x + 1), y),
    "a value and a view of it": lambda m, x: ((y := x + 1), y.view(-1), y[3:5]),
    "parts of one value": lambda m, x: (x + 1).split(16),
    "a value that others were computed from": lambda m, x: ((y := (x + 1) * 2), y.relu() - 1),
    "a view of a placed value": lambda m, x: ((x + 1) * 2).t(),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_results_share_memory_with_nothing_else(name: str):
    run = bound(OUTPUTS[name], X.clone(), parts=(LAYER,))
    given, weight = X.clone(), LAYER.weight.detach().clone()
    for _ in range(3):
        results = run(given)
        expected = [t.clone() for t in run.expected(given)]
        for result in results:  # one after the other: writing to one may not show in another
            result.fill_(7.0)
        assert torch.equal(given, X)
        assert torch.equal(LAYER.weight, weight)
        assert [torch.equal(t, torch.full_like(t, 7.0)) for t in results] == [True] * len(expected)
        again = run(given)
        for actual, wanted in zip(again, expected, strict=True):
            assert torch.equal(actual, wanted)


def test_results_of_earlier_calls_are_not_overwritten():
    run = bound(lambda x: ((x + 1) * 2, x.relu()), X)
    kept = [run(X * k) for k in range(6)]
    for k, results in enumerate(kept):
        assert torch.equal(results[0], (X * k + 1) * 2)
        assert torch.equal(results[1], (X * k).relu())


def test_eight_threads_agree_with_torch():
    run = bound(lambda m, x: (m(x).relu() * 2 + 1).sum(1), X, parts=(LAYER,))
    inputs = [torch.randn(64, 128, generator=torch.Generator().manual_seed(k)) for k in range(64)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: run(x)[0], inputs))
    for x, actual in zip(inputs, results, strict=True):
        torch.testing.assert_close(actual, run.expected(x)[0], rtol=0, atol=0)
    assert len(run.executable._arenas) <= ARENAS


def test_an_arena_is_used_again():
    run = bound(chain, X)
    run(X)
    run(X)
    (first,) = run.executable._arenas
    run(X)
    assert [a is first for a in run.executable._arenas] == [True]


def test_an_arena_comes_back_after_an_error():
    run = bound(lambda x: (x + 1) * 2, X)
    run(X)
    run(X)
    with pytest.raises(RuntimeError, match="result type ComplexFloat"):
        run.executable([X.to(torch.complex64)])
    check(run, X)


EDGES: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "no rows": (lambda m, x: m(x).relu(), (X[:0],)),
    "an empty result": (lambda m, x: x[:, 5:5] * 2, (X,)),
    "several results of one operator": (lambda m, x: torch.topk(x, 3), (X,)),
    "a list of results": (lambda m, x: torch.split(x + 1, [10, 54]), (X,)),
    "an unused result": (lambda m, x: torch.max(x, 1)[1] * 2, (X,)),
    "a scalar": (lambda m, x: x.sum(), (X,)),
    "complex numbers": (lambda m, x: torch.fft.rfft(x).abs(), (X,)),
    "transposed input": (lambda m, x: (x * 2).contiguous() + 1, (X.t(),)),
    "integers": (lambda m, x: x + x, (torch.arange(20000),)),
}


@pytest.mark.parametrize("name", EDGES)
def test_every_kind_of_value_survives(name: str):
    function, args = EDGES[name]
    run = bound(function, *args, parts=(LAYER,))
    for _ in range(3):
        check(run, *args)


def test_a_value_whose_size_depends_on_data_gets_no_place():
    run = bound(lambda x: torch.relu(x[x[:, 0] > 0] + 1).sum(0), torch.ones(200, 64))
    check(run, torch.ones(200, 64))
    few, many = -torch.ones(200, 64), torch.ones(200, 64)
    few[3:70] = 2.0
    for x in (few, many, few):
        check(run, x)
    assert "out=buffers" not in run.executable.source.replace("gt.Scalar", "")


class Living(TorchDispatchMode):
    """Adds up the bytes of the results that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self.bytes = 0, WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes[result.untyped_storage()] = result.nbytes
        self.most = max(self.most, sum(self.bytes.values()))
        return result


def test_the_recording_run_drops_values_as_later_runs_do():
    x = X[:2]
    run = bound(lambda x: x.exp().sin().cos().tan().sinh().cosh().sum(), x)
    for _ in range(2):
        with Living() as seen:
            run.executable([x])
        assert seen.most == 2 * x.nbytes


def test_a_clock_is_read_before_the_plan_and_after_each_call():
    run = bound(chain, X)
    with pytest.raises(ValueError, match="recorded by its first run"):
        run.executable.stamped(lambda: 0)
    check(run, X)
    ticks = iter(range(100))
    stamped = run.executable.stamped(lambda: next(ticks))
    calls = len(run.executable.calls)
    assert stamped([X]) == list(range(calls + 1))
    assert stamped([X]) == list(range(calls + 1, 2 * calls + 2))
    check(run, X)
