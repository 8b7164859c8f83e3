from __future__ import annotations

import pytest
import torch
from frontend.checking import check_lowering
from torch import nn, randn

from tpopt.ir import Compute, Scan
from tpopt.ir.work import work

AUTO = torch.export.Dim.AUTO
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN, "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k)}
FORMS = {
    "one layer": {},
    "two layers": {"num_layers": 2},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
}


def _frozen(module):
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_and_their_last_states(kind, form):
    layer = _frozen(KINDS[kind](8, 5, **FORMS[form]))
    check_lowering(lambda x: layer(x), randn(4, 2, 8))
    many, batch = layer.num_layers * (2 if layer.bidirectional else 1), 4 if layer.batch_first else 2
    start = [randn(many, batch, 5) for _ in range(2 if kind == "lstm" else 1)]
    check_lowering(lambda x, *h: layer(x, h if len(h) > 1 else h[0]), randn(4, 2, 8), *start)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_known_at_run_time(kind):
    layer = _frozen(KINDS[kind](8, 5, bidirectional=True))
    check_lowering(lambda x: layer(x), randn(4, 2, 8), dynamic=({1: AUTO},), also=[(randn(4, 3, 8),)])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_single_sequences_and_other_types():
    projected = _frozen(nn.LSTM(8, 5, num_layers=2, bidirectional=True, proj_size=3))
    check_lowering(lambda x: projected(x), randn(4, 2, 8))
    single, narrow = _frozen(nn.GRU(8, 5)), _frozen(nn.LSTM(8, 5).bfloat16())
    check_lowering(lambda x: single(x), randn(4, 8))
    check_lowering(lambda x: narrow(x)[0], randn(4, 2, 8).bfloat16())


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_decompose(cell):
    step = _frozen(cell(8, 5))
    check_lowering(lambda x: step(x), randn(2, 8))


def test_the_inputs_share_of_the_gates_is_multiplied_before_the_loop():
    layer = _frozen(nn.LSTM(8, 5))
    stages = check_lowering(lambda x: layer(x)[0], randn(4, 2, 8)).algebra.stages
    assert [type(s) for s in stages[-2:]] == [Compute, Scan]
    assert [o.shape for o in stages[-2].outs] == [(4, 2, 20)]
    assert [o.shape for o in stages[-1].outs] == [(2, 5), (2, 5), (4, 2, 5)]


def test_work_is_that_of_the_gates():
    layer = _frozen(nn.LSTM(8, 5))
    assert work(check_lowering(lambda x: layer(x)[0], randn(4, 2, 8)).algebra).macs == 4 * 2 * 20 * (8 + 5)


def test_dropout_between_layers_stays_whole():
    layer = nn.LSTM(8, 5, num_layers=2, dropout=0.5).requires_grad_(False)
    traced = check_lowering(lambda x: layer(x)[0] * 0, randn(4, 2, 8), opaque=["aten.lstm.input"])
    assert list(traced.reasons.values()) == [
        "aten.lstm.input drops at random between layers (dropout=0.5 while training)"
    ]
