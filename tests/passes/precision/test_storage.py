"""Programs that store their values in bf16: what keeps its type, and that they compute what they say."""

from __future__ import annotations

import pytest
import torch
from programs import random_program
from support.small import Block, Residual
from torch import nn

from tpopt.frontend.trace import trace
from tpopt.ir import Compute, DType, Program
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch
from tpopt.passes.precision.storage import Storage, stored_narrow
from tpopt.rewrite import Trace, registry


def narrowed(program: Program) -> Program:
    return stored_narrow(program, Storage([program], DType.BF16))


def cleaned(model: nn.Module, *inputs: torch.Tensor) -> Program:
    return registry().parse("default").run(trace(model.eval(), inputs).algebra, Trace())


def test_values_are_narrow_between_stages_and_sums_are_not():
    text = """program p(x: f32[64,32])
a: f32[64,32] = L[i:64,j:32] x[i,j] * 2.0
mean: f32[64] = L[i:64] sum[j:32]{ a[i,j] } * 0.03125
b: f32[64,32] = L[i:64,j:32] a[i,j] - mean[i]
return b
"""
    got = narrowed(parse_program(text))
    assert (
        f"{got}\n"
        == """program p(x: f32[64,32])
a.bf16: bf16[64,32] = L[i:64,j:32] bf16(x[i,j] * 2.0)
mean: f32[64] = L[i:64] sum[j:32]{ f32(a.bf16[i,j]) } * 0.03125
b: f32[64,32] = L[i:64,j:32] f32(a.bf16[i,j]) - mean[i]
return b
"""
    )


def test_what_is_multiplied_is_narrow_and_biases_are_not():
    got = narrowed(cleaned(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(3, 8)))
    types = {t.name: t.dtype for t in got.tensors.values()}
    assert types["input.bf16"] is types["_0.weight.bf16"] is types["_2.weight.bf16"] is DType.BF16
    assert types["_0.bias"] is types["_2.bias"] is DType.F32
    assert [t.dtype for t in (*got.inputs, *got.outputs)] == [DType.F32, DType.F32]
    assert got.constants["_0.weight.bf16"].dtype == "uint16"


@pytest.mark.parametrize(
    ("model", "shape"), [(Residual(), (2, 3, 24, 24)), (Block(32, 4), (2, 12, 32)), (nn.GRU(8, 8), (5, 2, 8))]
)
def test_a_model_computes_what_it_did_but_for_rounding(model: nn.Module, shape: tuple[int, ...]):
    torch.manual_seed(0)
    x = torch.randn(shape)
    program = cleaned(model, x)
    exact, got = (to_torch(p)(x) for p in (program, narrowed(program)))
    for a, b in zip(exact, got, strict=True):
        assert (a - b).norm() <= 2e-2 * a.norm()
        assert not torch.equal(a, b)


def test_a_narrow_weight_is_rounded_to_the_nearest():
    program = cleaned(nn.Linear(64, 64), torch.randn(2, 64))
    storage = Storage([program], DType.BF16)
    weight = next(w for w in program.weights if w.rank == 2)
    bits = torch.from_numpy(storage.value(weight))
    assert torch.equal(bits.view(torch.bfloat16), torch.from_numpy(program.constants[weight.name]).bfloat16())


@pytest.mark.parametrize("seed", range(40))
def test_any_program_has_a_narrow_form_with_the_same_signature(seed: int):
    program = random_program(seed).program
    got = narrowed(program)
    assert (got.inputs, got.outputs, got.aliases) == (program.inputs, program.outputs, program.aliases)
    wide = [s for s in got.stages if isinstance(s, Compute)]
    names = {t.name for t in got.tensors.values() if t.dtype is DType.BF16 and t.name not in program.tensors}
    assert all(o.name.removesuffix(".bf16") in program.tensors for s in wide for o in s.outs if o.name in names)
