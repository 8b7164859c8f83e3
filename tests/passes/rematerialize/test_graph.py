from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpopt.errors import UsageError
from tpopt.passes.rematerialize import ComputationGraph, budget_in_bytes, read_graph

NODES = [{"id": "a", "duration": 3, "size": 10}, {"id": "b", "duration": 4, "size": 20}]


def written(folder: Path, document: Any) -> Path:
    file = folder / "graph.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_a_graph_is_read(tmp_path: Path):
    graph = read_graph(written(tmp_path, {"nodes": NODES, "edges": [["a", "b"]], "order": ["a", "b"]}))
    assert graph == ComputationGraph.of([10, 20], [3, 4], [[], [0]], ids=["a", "b"])
    assert (graph.structural_bound, graph.successors, graph.edges, graph.duration) == (30, ((1,), ()), 1, 7)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "is no JSON"),
        ([], "an object with a list 'nodes'"),
        ({"nodes": NODES}, "an object with a list 'edges'"),
        ({"nodes": [], "edges": []}, "the graph has no nodes"),
        ({"nodes": [{"duration": 1, "size": 1}], "edges": []}, r"nodes\[0\] must be an object with 'id'"),
        ({"nodes": [NODES[0], NODES[0]], "edges": []}, "two nodes have the id 'a'"),
        ({"nodes": [{**NODES[0], "size": 1.5}], "edges": []}, "node 'a' needs 'size', a whole number; it has 1.5"),
        ({"nodes": [{**NODES[0], "size": -1}], "edges": []}, "node 'a' has a negative size, duration or workspace"),
        ({"nodes": NODES, "edges": [["a", "c"]]}, r"edges\[0\] names 'c', which is no node"),
        ({"nodes": NODES, "edges": ["ab"]}, r"edges\[0\] must be a pair"),
        ({"nodes": NODES, "edges": [["a", "a"]]}, "node 'a' has an operand that is itself or no node"),
        ({"nodes": NODES, "edges": [["a", "b"], ["b", "a"]]}, "node 'a' waits for itself"),
        ({"nodes": NODES, "edges": [], "order": ["a"]}, "'order' must name each of the 2 nodes once; it has 1 entries"),
        ({"nodes": NODES, "edges": [["a", "b"]], "order": ["b", "a"]}, "'order' puts 'b' before 'a', which it needs"),
    ],
)
def test_a_file_that_holds_no_graph_says_why(document: Any, reason: str, tmp_path: Path):
    with pytest.raises(UsageError, match=reason):
        read_graph(written(tmp_path, document))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        read_graph(tmp_path / "none.json")


def test_a_budget_up_to_one_is_a_part_of_the_input_orders_peak():
    graph = ComputationGraph.of([10, 20], [3, 4], [[], [0]])
    assert [budget_in_bytes(graph, b) for b in (1, 0.5, 0.99, 17)] == [30, 15, 29, 17]


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_positive_and_finite(budget: float):
    with pytest.raises(UsageError, match="expected a part of the input order's peak"):
        budget_in_bytes(ComputationGraph.of([1], [1], [[]]), budget)
