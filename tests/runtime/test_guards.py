from __future__ import annotations

import logging

import pytest
import torch

from tpopt.errors import GuardFailed, UnsupportedInput
from tpopt.ir import DType, Index, Symbol, Tensor, floordiv, index
from tpopt.runtime.guards import InputGuard, ThreadGuard, WeightGuard, refuse_autograd

S, T = Symbol("s0", 2, 9), Symbol("s1", 0, None)
CPU = torch.device("cpu")


def sizes(*pairs: tuple[tuple[int | Index, ...], tuple[int, ...]]) -> object:
    """What a guard reads off tensors of the second shapes, declared with the first."""
    declared = tuple(Tensor(f"x{k}", shape, DType.F32) for k, (shape, _) in enumerate(pairs))
    return InputGuard(declared, CPU).sizes([torch.empty(shape) for _, shape in pairs])


def test_static_shapes_must_be_equal():
    assert sizes(((3, 4), (3, 4))) == {}
    assert sizes(((3, 4), (3, 5))) is None
    assert sizes(((3, 4), (3, 4, 1))) is None


def test_a_symbol_is_read_off_and_must_lie_in_its_range():
    assert sizes(((index(S), 4), (7, 4))) == {"s0": 7}
    assert sizes(((index(S), 4), (2, 4))) == {"s0": 2}
    assert sizes(((index(S), 4), (1, 4))) is None
    assert sizes(((index(S), 4), (10, 4))) is None
    assert sizes(((index(T), 4), (1000, 4))) == {"s1": 1000}


def test_a_symbol_has_one_value():
    assert sizes(((index(S),), (5,)), ((index(S),), (5,))) == {"s0": 5}
    assert sizes(((index(S),), (5,)), ((index(S),), (6,))) is None


def test_derived_extents_follow_from_symbols_wherever_those_stand():
    assert sizes(((2 * S + 1,), (11,)), ((index(S),), (5,))) == {"s0": 5}
    assert sizes(((2 * S + 1,), (12,)), ((index(S),), (5,))) is None
    assert sizes(((S * T,), (15,)), ((index(S), index(T)), (5, 3))) == {"s0": 5, "s1": 3}
    assert sizes(((floordiv(S, 2),), (2,)), ((index(S),), (5,))) == {"s0": 5}


def test_a_symbol_that_stands_in_a_linear_extent_alone_is_solved_for():
    assert sizes(((2 * S,), (8,))) == {"s0": 4}
    assert sizes(((2 * S,), (7,))) is None
    assert sizes(((2 * S,), (20,))) is None
    assert sizes(((3 * S - 1,), (8,)), ((S + T,), (10,))) == {"s0": 3, "s1": 7}


def test_an_extent_that_cannot_be_solved_for_fits_nothing():
    assert sizes(((S * T,), (15,))) is None


def test_a_wrong_element_type_is_refused_with_what_was_expected():
    guard = InputGuard((Tensor("tokens", (3,), DType.I64),), CPU)
    with pytest.raises(UnsupportedInput, match=r"input tokens: expected i64, got torch.int32; convert it or compile"):
        guard.sizes([torch.zeros(3, dtype=torch.int32)])


def test_another_device_is_refused():
    guard = InputGuard((Tensor("x", (3,), DType.F32),), CPU)
    with pytest.raises(UnsupportedInput, match=r"input x: compiled for cpu, got a tensor on meta"):
        guard.sizes([torch.zeros(3, device="meta")])


def test_a_changed_weight_is_named():
    first, second = torch.zeros(3), torch.zeros(3)
    guard = WeightGuard.of({"a": first, "b.weight": second})
    guard.check()
    second += 1
    with pytest.raises(GuardFailed, match=r"weight b.weight changed after compilation .*; call tpopt.compile again"):
        guard.check()


def test_a_weight_changed_through_a_view_is_noticed():
    weight = torch.zeros(3)
    guard = WeightGuard.of({"w": weight})
    weight[1:].fill_(2)
    with pytest.raises(GuardFailed, match="weight w changed"):
        guard.check()


def test_weights_made_in_inference_mode_have_no_version():
    with torch.inference_mode():
        weight = torch.zeros(3)
    guard = WeightGuard.of({"w": weight, "v": torch.zeros(3)})
    guard.check()
    assert guard.names == ("v",)


def test_a_wanted_gradient_is_refused_and_only_then():
    plain, wanted = torch.zeros(3), torch.zeros(3, requires_grad=True)
    with pytest.raises(GuardFailed, match=r"input 1 requires a gradient, and a compiled model computes none"):
        refuse_autograd([plain, wanted])
    refuse_autograd([plain])
    with torch.no_grad():
        refuse_autograd([wanted])


def test_another_number_of_threads_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    guard = ThreadGuard()
    with caplog.at_level(logging.WARNING, logger="tpopt"):
        for threads in (3, None, 2, 2, 4):
            guard.check(threads)
    (said,) = caplog.messages
    assert said.startswith("compiled with torch.get_num_threads() = 2 and called with 3: ")
    assert said.endswith("call tpopt.compile again, or torch.set_num_threads(2)")
