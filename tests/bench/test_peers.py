"""Peers: what is missing or fails is a line in the report."""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch
from torch import nn

from tpopt.bench.peers import PEERS, Case, build_peer
from tpopt.bench.reference import l2_rel_err


def case(threads: int = 1) -> Case:
    torch.manual_seed(0)
    return Case(nn.Sequential(nn.Linear(3, 7), nn.GELU(), nn.Linear(7, 5)).eval(), (torch.randn(2, 3),), threads)


def test_eager_calls_the_model():
    it = case()
    peer = build_peer("eager", it)
    assert (peer.status, peer.reason) == ("ok", None)
    assert torch.equal(peer.call(), it.model(*it.inputs))


def test_a_peer_that_fails_is_reported_by_the_first_line_of_what_caused_it(monkeypatch):
    said = RuntimeError("\x1b[96mexport\x1b[0m failed\nwith a long explanation")

    def build(it: Case):
        raise said from ValueError("no rule for aten.foo")

    def build_directly(it: Case):
        raise RuntimeError(*said.args)

    monkeypatch.setitem(PEERS, "openvino", build)
    monkeypatch.setitem(PEERS, "onnxruntime", build_directly)
    caused, direct = build_peer("openvino", case()), build_peer("onnxruntime", case())
    assert (caused.status, caused.call, caused.reason) == ("failed", None, "ValueError: no rule for aten.foo")
    assert (direct.status, direct.call, direct.reason) == ("failed", None, "RuntimeError: export failed")


def test_a_peer_whose_first_call_fails_is_reported(monkeypatch):
    monkeypatch.setitem(PEERS, "openvino", lambda it: lambda: {}[0])
    assert build_peer("openvino", case()).reason == "KeyError: 0"


def test_a_peer_that_is_not_installed_is_missing(monkeypatch):
    monkeypatch.setitem(PEERS, "openvino", lambda it: importlib.import_module("absent_runtime"))
    peer = build_peer("openvino", case())
    assert (peer.status, peer.reason) == ("missing", "absent_runtime is not installed: pip install 'tpopt[bench]'")


def test_what_a_peer_prints_and_warns_goes_nowhere_near_stdout(monkeypatch, capsys):
    def build(it: Case):
        print("building")  # noqa: T201
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return lambda: None

    monkeypatch.setitem(PEERS, "openvino", build)
    assert build_peer("openvino", case()).status == "ok"
    assert capsys.readouterr().out == ""


@pytest.mark.acceptance
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_computes_what_the_model_does(name):
    it = case(threads=2)
    peer = build_peer(name, it)
    assert (peer.status, peer.reason) == ("ok", None)
    with torch.no_grad():
        assert l2_rel_err(peer.call(), [it.model(*it.inputs)]) < 1e-6


@pytest.mark.acceptance
def test_the_two_inductors_are_compiled_apart():
    from torch._dynamo.utils import counters

    it = case(threads=2)
    torch._dynamo.reset()
    counters.clear()
    peers = [build_peer(name, it) for name in ("inductor", "inductor-max")]
    assert counters["stats"]["unique_graphs"] == 2
    with torch.no_grad():
        for peer in peers:
            peer.call()
    assert counters["stats"]["unique_graphs"] == 2
    assert counters["inductor"]["mkldnn_linear_weight_pack_matcher_count"] == 2  # constants: the second one's freezing
