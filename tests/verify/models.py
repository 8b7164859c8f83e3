"""A small model, the program that computes it, and callables for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tpopt.ir import Origin, Program
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch

TEXT = """program net(x: f32[4,6], ids: i64[4])
weight table: f32[9,6]
weight w: f32[6,5]
e: f32[4,6] = L[i:4,k:6] x[i,k] + table[ids[i]{0:9},k]
h: f32[4,5] = L[i:4,j:5] sum[k:6]{ e[i,k] * w[k,j] }
t: f32[4,5] = L[i:4,j:5] tanh(h[i,j])
m: f32[4] = L[i:4] max[j:5]{ t[i,j] }
y: f32[4,5] = L[i:4,j:5] exp(t[i,j] - m[i])
b: i64[4] = L[i:4] argmax[j:5].1{ t[i,j], j }
return y, b"""
Weights = dict[str, Tensor]


def program() -> Program:
    generator = torch.Generator().manual_seed(0)
    weights = {"table": torch.randn(9, 6, generator=generator), "w": torch.randn(6, 5, generator=generator) * 0.3}
    origins = {"h": Origin(("linear",), ("net.py:7 h = e @ self.w",), "encoder")}
    constants = {k: v.numpy() for k, v in weights.items()}
    return replace(parse_program(TEXT).validate(), constants=constants, origins=origins)


def original(x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    weights = to_torch(program()).weights
    t = torch.tanh((x + weights["table"][ids]) @ weights["w"])
    return torch.exp(t - t.amax(1, keepdim=True)), t.argmax(1)


def example() -> list[Tensor]:
    return [torch.linspace(-2, 2, 24).reshape(4, 6), torch.tensor([0, 3, 8, 3])]


def with_weight(name: str, change: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """The program with one of its weights changed."""
    run = to_torch(program())
    return lambda *inputs: run(*inputs, weights={name: change(run.weights[name])})


def stages_of(call: Callable[..., object]) -> Callable[..., dict[str, Tensor]]:
    """What ``call`` computes on the way, by name; ``call`` passes ``on_stage`` on."""

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        call(*inputs, on_stage=lambda s, outs: found.update({o.name: v for o, v in zip(s.outs, outs, strict=True)}))
        return found

    return run
