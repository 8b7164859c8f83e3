"""The cost models: each file is one way to say how long a candidate takes and how many bytes it moves.

A cost model prices candidates for the chooser; see ``tpopt.protocols.CostModel``. What it needs from the machine
(measurements, kernel features) arrives through a protocol. This folder is imported as ``tpopt.cost_models``.
"""
