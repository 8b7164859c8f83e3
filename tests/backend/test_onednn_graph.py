from __future__ import annotations

import logging
import threading

import pytest
import torch

from tpopt.backend import onednn_graph
from tpopt.backend.onednn_graph import GraphFunction
from tpopt.backend.operators import inference

Q = torch.randn(1, 7, 3, 8).transpose(1, 2)
K = torch.randn(1, 3, 7, 8)
AVAILABLE = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")


def weights(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q.matmul(k.transpose(-2, -1)) * 0.3, -1)


@AVAILABLE
def test_a_function_is_compiled_for_the_strides_it_meets(caplog):
    made = GraphFunction(weights)
    with caplog.at_level(logging.INFO, "tpopt"), inference():
        for q, k in ((Q, K), (Q.contiguous(), K), (Q[:, :, :5], K)):
            for _ in range(3):
                torch.testing.assert_close(made(q, k), weights(q, k))
    assert caplog.messages == []


def test_the_switch_is_left_as_it_was():
    before = torch.jit.onednn_fusion_enabled()
    GraphFunction(weights)(Q, K)
    assert torch.jit.onednn_fusion_enabled() is before


def test_what_it_does_not_take_runs_as_it_is_and_says_why_once(caplog):
    made = GraphFunction(lambda q, k: q.sort(-1)[0])
    with caplog.at_level(logging.INFO, "tpopt"):
        for _ in range(2):
            torch.testing.assert_close(made(Q, K), Q.sort(-1)[0])
    assert caplog.messages == ["oneDNN's graph compiler is not used: it takes no part of the function"]


def test_a_bounded_number_of_forms_is_kept(monkeypatch: pytest.MonkeyPatch):
    compiled: list[int] = []
    monkeypatch.setattr(onednn_graph, "_KEPT", 2)
    monkeypatch.setattr(onednn_graph, "_partition", lambda f, tensors: compiled.append(len(tensors[0])) or f)
    made = GraphFunction(torch.neg)
    for rows in (1, 2, 3, 3, 1):
        assert torch.equal(made(torch.ones(rows)), -torch.ones(rows))
    assert compiled == [1, 2, 3, 1]


def test_other_types_run_as_they_are():
    made = GraphFunction(weights)
    torch.testing.assert_close(made(Q.double(), K.double()), weights(Q.double(), K.double()))


@AVAILABLE
@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_right_from_several_threads_and_under_other_thread_counts(threads: int):
    made, before, gaps = GraphFunction(weights), torch.get_num_threads(), []
    made(Q, K)

    def work() -> None:
        with inference():
            gaps.extend(float((made(Q, K) - weights(Q, K)).abs().max()) for _ in range(20))

    try:
        torch.set_num_threads(threads)
        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        torch.set_num_threads(before)
    assert len(gaps) == 60
    assert max(gaps) < 1e-6
