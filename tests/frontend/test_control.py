from __future__ import annotations

import pytest
import torch
from frontend.checking import check_lowering
from torch import randn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.map import map as mapped
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch._subclasses.fake_tensor import FakeTensorMode

from tpopt.errors import UnsupportedModel
from tpopt.frontend.trace import trace, translate_exported
from tpopt.ir import Cond, Scan
from tpopt.ir.to_torch import to_torch


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_condition_runs_one_branch(dynamic):
    def branches(x, w):
        return torch.cond(x.sum() > 0, lambda x, w: x + w, lambda x, w: x.exp() - w, (x, w))

    x, w = randn(5, 6).abs(), randn(6)
    traced = check_lowering(branches, x, w, dynamic=dynamic, also=[(-x, w)])
    stage = traced.algebra.stages[-1]
    assert isinstance(stage, Cond)
    assert (stage.then.name, stage.otherwise.name) == ("then", "otherwise")


def test_branches_yield_several_tensors_and_capture_what_they_read():
    def branches(x, w):
        return torch.cond(x.sum() > 0, lambda x, w: (x + w, w * 2), lambda x, w: (x.sort(0)[0] - w, w.exp()), (x, w))

    x, w = randn(5, 6).abs(), randn(6)
    traced = check_lowering(branches, x, w, also=[(-x, w)])
    assert [t.name for t in traced.algebra.stages[-1].captures] == ["args_0", "args_1"]


def test_a_condition_on_run_time_extents():
    def short(x):
        return torch.cond(x.shape[0] > 4, lambda x: x + 1, lambda x: x - 1, (x,))

    check_lowering(short, randn(5, 6), dynamic=True, also=[(randn(3, 6),), (randn(4, 2),)])


def test_the_original_program_has_the_same_shape():
    traced = check_lowering(lambda x: torch.cond(x.sum() > 0, torch.exp, torch.sin, (x,)), randn(5, 6))
    stage = traced.original.stages[-1]
    assert [[s.target for s in p.stages] for p in (stage.then, stage.otherwise)] == [
        ["aten.exp.default"],
        ["aten.sin.default"],
    ]
    x = randn(5, 6)
    torch.testing.assert_close(to_torch(traced.original)(x), to_torch(traced.algebra)(x))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_run_time_length(reverse):
    def running(x, w):
        return scan(lambda c, v: (c * w + v, c * v), torch.zeros(6), x, reverse=reverse)

    traced = check_lowering(
        running, randn(5, 6), randn(6), dynamic=({0: torch.export.Dim.AUTO}, None), also=[(randn(7, 6), randn(6))]
    )
    (stage,) = [s for s in traced.algebra.stages if isinstance(s, Scan)]
    assert (len(stage.init), len(stage.xs), len(stage.captures)) == (1, 1, 1)


def test_a_scan_over_transforms_captures_their_weights():
    def filtered(x):
        return scan(lambda c, v: (c + torch.fft.irfft(torch.fft.rfft(v), n=6), c * v), torch.zeros(6), x)

    traced = check_lowering(filtered, randn(5, 6))
    assert [w.name for w in traced.algebra.weights] == ["dft6", "dft6.inverse"]


def test_a_map_is_a_scan_that_carries_nothing():
    traced = check_lowering(lambda x, w: mapped(lambda v, w: v * w, x, w), randn(5, 6), randn(6), dynamic=True)
    assert traced.algebra.stages[-1].init == ()


class _Recurrence(torch.nn.Module):
    def forward(self, x, y):
        return associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (x, y), 1, combine_mode="pointwise")


def test_an_associative_scan_starts_from_the_first_element():
    with FakeTensorMode():
        given = torch.empty(5, 6, device="cuda"), torch.empty(5, 6, device="cuda")
    program = trace(_Recurrence(), given).algebra
    a, b = randn(5, 6), randn(5, 6)
    products, states = [a[:, 0]], [b[:, 0]]
    for k in range(1, 6):
        products.append(products[-1] * a[:, k])
        states.append(states[-1] * a[:, k] + b[:, k])
    torch.testing.assert_close(to_torch(program)(a, b), (torch.stack(products, 1), torch.stack(states, 1)))


def test_a_loop_of_unknown_length_is_refused_with_the_reason():
    def doubled(x):
        return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), x))

    with pytest.raises(
        UnsupportedModel, match="while_loop, which has no algebra: how often it repeats depends on data"
    ):
        check_lowering(doubled, randn(5, 6))


def test_sub_graphs_that_only_change_modes_are_inlined():
    def modes(x):
        with torch.no_grad():
            y = x * 2
        with torch.enable_grad():
            return y + 1

    exported = torch.export.export(_Wrapped(modes), (randn(5, 6),), strict=False)
    program = translate_exported(exported, "modes").algebra
    x = randn(5, 6)
    torch.testing.assert_close(to_torch(program)(x)[0], x * 2 + 1)


class _Wrapped(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)
