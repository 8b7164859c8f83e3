from __future__ import annotations

from typing import Any

import pytest
import torch
from support.kernels import Wrapped
from torch import nn

from tpopt.choose.candidate import Candidates
from tpopt.choose.gather import gather
from tpopt.choose.modelled import CHANNELS_LAST_CONVOLUTION, ModelPrices, stages_between
from tpopt.cost_models.roofline import Balance, RooflineModel
from tpopt.frontend.trace import Traced, trace
from tpopt.rewrite import Trace, registry

PLAIN = RooflineModel(Balance(1.0, 1e30, 0.0, 0.0, dict.fromkeys(["onednn", "gemm", "original", "layout"], 1.0)))
"""A microsecond is a multiply-add."""
X = torch.randn(3, 8, 5, 7)


def offered(function: Any, *parts: nn.Module, dynamic: Any = None) -> tuple[Traced, Candidates]:
    traced = trace(Wrapped(function, *parts).eval(), (X,), dynamic_shapes=dynamic)
    return traced, gather(traced.original, [registry().parse("default").run(traced.algebra, Trace())])


def test_an_original_operator_and_a_kernel_cost_their_multiply_adds():
    traced, found = offered(lambda m, x: m(x), nn.Conv2d(8, 4, 3, padding=1, bias=False))
    prices = {c.name: ModelPrices(traced.algebra, {}, PLAIN).price(c) for c in found.admitted}
    macs = 3 * 4 * 5 * 7 * 8 * 9
    assert prices["conv2d:original"] == pytest.approx(macs)
    assert prices["conv2d:convolution(conv2d):row-major"] == pytest.approx(macs)
    assert prices["conv2d:convolution(conv2d):channels_last"] == pytest.approx(macs * CHANNELS_LAST_CONVOLUTION)


def test_a_conversion_costs_its_traffic():
    traced, found = offered(lambda x: x.relu())
    (there,) = (c for c in found.admitted if c.name == "relu:to-channels_last")
    machine = RooflineModel(Balance(1e30, 1.0, 0.0, 0.0))
    assert ModelPrices(traced.algebra, {}, machine).price(there) == 2 * X.nbytes


def test_a_view_costs_a_microsecond():
    traced, found = offered(lambda x: x.view(-1))
    (view,) = (c for c in found.admitted if c.name == "view:original")
    assert ModelPrices(traced.algebra, {}, PLAIN).price(view) == 1.0


def test_run_time_sizes_enter_the_price():
    batch = ({0: torch.export.Dim("b", min=2, max=64)},)
    traced, found = offered(lambda m, x: m(x), nn.Linear(7, 2, bias=False), dynamic=(batch,))
    (linear,) = (c for c in found.admitted if c.name == "linear:original")
    (symbol,) = traced.algebra.symbols
    prices = [ModelPrices(traced.algebra, {symbol.name: n}, PLAIN).price(linear) for n in (2, 20)]
    assert prices == [2 * 8 * 5 * 2 * 7, 20 * 8 * 5 * 2 * 7]


def test_the_algebra_of_an_operator_ends_at_what_it_reads():
    traced, _ = offered(lambda x: x.relu().softmax(-1).exp())
    softmax = next(s for s in traced.original.stages if s.outs[0].name == "softmax")
    names = [o.name for s in stages_between(traced.algebra, softmax) for o in s.outs]
    assert "softmax" in names
    assert not {"relu", "exp"} & set(names)
