"""Graphs for the tests of schedules."""

from __future__ import annotations

from tpopt.passes.rematerialize import ComputationGraph


def training_chain(layers: int) -> ComputationGraph:
    """A chain of layers and its backward pass, each of which reads the layer's input: all sizes and durations 1."""
    forward = [[v - 1] if v else [] for v in range(layers)]
    backward = [[layers + k - 1, layers - 1 - k] for k in range(layers)]
    return ComputationGraph.of([1] * (2 * layers), [1] * (2 * layers), forward + backward)
