"""A suite of small models, some of them ill, and stand-ins for tpopt.compile."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace

import torch
from torch import nn

REPORT = {
    "kernels": [{"kind": "linear"}, {"kind": "linear"}, {"kind": "original"}],
    "opaque": [{"target": "aten.foo.default", "name": "y", "source": "tiny.py:1", "reason": "no lowering"}],
    "original_share": 0.25,
    "work": {"macs_before": 60, "macs_after": 30, "bytes_before": 800, "bytes_after": 400},
    "verification": {"tolerance": 2e-6},
    "memory": {"arena_bytes": 64, "owned_peak_bytes": 0, "weights_bytes": 60},
    "result": {"status": "optimized", "reason": "faster", "speedup": 1.5, "low": 1.4, "high": 1.6},
}


class Compiled:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.report = SimpleNamespace(to_dict=lambda: REPORT)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(*inputs)


def compile_as_is(model, inputs, **options):
    return Compiled(model)


def compile_to_nan(model, inputs, **options):
    return Compiled(nn.Sequential(model, nn.Threshold(float("inf"), float("nan"))))


def compile_and_show_options(model, inputs, **options):
    raise ValueError(repr(sorted(options.items())))


def fine(seed: int):
    def build():
        generator = torch.Generator().manual_seed(seed)
        model = nn.Linear(3, 5)
        nn.init.normal_(model.weight, generator=generator)
        return model.eval(), (torch.randn(4, 3, generator=generator),)

    return build


def crash():
    sys.stderr.write("about to crash\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def broken():
    raise ValueError("no such weights")


def hang():
    time.sleep(600)


ZOO = {"first": fine(1), "crash": crash, "broken": broken, "hang": hang, "last": fine(2)}
