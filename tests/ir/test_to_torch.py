"""The torch function of a program: weights, symbols, types, gradients, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tpopt.errors import UnknownName, UnsupportedInput, UsageError
from tpopt.ir import Builder, Compute, DType, Origin, Program, Stage, const, tensor
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch
from tpopt.ir.to_torch.function import TorchFunction

NETWORK = """program net(x: f32[s0,3,9,9])
symbol s0 in [1, 64]
weight w: f32[4,3,3,3]
weight b: f32[4]
weight v: f32[10,4]
y: f32[s0,4,5,5] = L[n:s0,o:4,i:5,j:5] sum[c:3,r:3,q:3]{
  select(1 <= 2*i+r < 10 & 1 <= 2*j+q < 10, x[n,c,2*i+r-1,2*j+q-1], 0.0) * w[o,c,r,q] } + b[o]
a: f32[s0,4,5,5] = L[n:s0,o:4,i:5,j:5] max(y[n,o,i,j], 0.0)
p: f32[s0,4] = L[n:s0,o:4] sum[i:5,j:5]{ a[n,o,i,j] } * 0.04
z: f32[s0,10] = L[n:s0,k:10] sum[o:4]{ p[n,o] * v[k,o] }
m: f32[s0] = L[n:s0] max[k:10]{ z[n,k] }
e: f32[s0,10] = L[n:s0,k:10] exp(z[n,k] - m[n])
s: f32[s0] = L[n:s0] sum[k:10]{ e[n,k] }
out: f32[s0,10] = L[n:s0,k:10] e[n,k] / s[n]
return out"""


def network() -> tuple[Program, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10, bias=False),
        nn.Softmax(1),
    )
    constants = {"w": model[0].weight, "b": model[0].bias, "v": model[4].weight}
    origins = {"w": Origin(("0.weight",)), "b": Origin(("0.bias", "1.shift"))}
    program = parse_program(NETWORK).validate()
    arrays = {k: p.detach().numpy() for k, p in constants.items()}
    return replace(program, constants=arrays, origins=origins), model


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_it_computes_what_the_model_computes(batch: int):
    program, model = network()
    x = torch.randn(batch, 3, 9, 9)
    torch.testing.assert_close(to_torch(program)(x)[0], model(x))


def test_double_precision_reaches_every_float():
    program, model = network()
    x = torch.randn(2, 3, 9, 9)
    (got,) = to_torch(program, dtype=torch.float64)(x)
    assert torch.equal(got, got.double())
    torch.testing.assert_close(got, model.double()(x.double()), rtol=1e-12, atol=1e-14)


def test_weights_have_names_values_and_origins():
    program, model = network()
    fn = to_torch(program)
    assert list(fn.weights) == ["w", "b", "v"]
    assert torch.equal(fn.weights["b"], model[0].bias)
    assert (fn.origin("b"), fn.origin("v")) == (("0.bias", "1.shift"), ())


def test_other_weights_may_be_given_by_name():
    program, _ = network()
    fn = to_torch(program)
    x = torch.randn(1, 3, 9, 9)
    assert torch.equal(fn(x, weights={"v": torch.zeros(10, 4)})[0], torch.full((1, 10), 0.1))
    with pytest.raises(UnknownName, match="unknown weight 'vv'"):
        fn(x, weights={"vv": torch.zeros(10, 4)})


@pytest.mark.parametrize("fast", [True, False])
def test_gradients_reach_inputs_and_weights(fast: bool):
    program, _ = network()
    fn = to_torch(program, dtype=torch.float64, fast=fast)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    weights = [w.clone().requires_grad_() for w in fn.weights.values()]

    def run(x: torch.Tensor, *ws: torch.Tensor) -> torch.Tensor:
        return fn(x, weights=dict(zip(fn.weights, ws, strict=True)))[0]

    assert torch.autograd.gradcheck(run, (x, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *weights), fast_mode=True)


def test_transforms_of_torch_func_apply():
    program, _ = network()
    fn = to_torch(program, dtype=torch.float64)
    x, w = torch.randn(2, 3, 9, 9, dtype=torch.float64), fn.weights["w"]

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return fn(x, weights={"w": weight})[0].square().sum()

    along = torch.ones_like(w)
    product = torch.func.jvp(torch.func.grad(loss), (w,), (along,))[1]
    step = 1e-6
    forward, backward = (torch.func.grad(loss)(w + s * step * along) for s in (1, -1))
    torch.testing.assert_close(product, (forward - backward) / (2 * step), rtol=1e-5, atol=1e-9)
    batched = torch.func.vmap(torch.func.grad(loss))(torch.stack([w, 2 * w]))
    torch.testing.assert_close(batched[1], torch.func.grad(loss)(2 * w))


def test_a_plan_made_in_inference_mode_serves_gradients_later():
    program, _ = network()
    fn = to_torch(program)
    x = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        fn(x)
    v = fn.weights["v"].clone().requires_grad_()
    fn(x, weights={"v": v})[0].square().sum().backward()
    assert v.grad is not None
    assert v.grad.abs().sum() > 0


def test_each_stage_is_shown_with_its_outputs_in_order():
    program, _ = network()
    seen: list[tuple[str, tuple[int, ...]]] = []

    def show(stage: Stage, outs: tuple[torch.Tensor, ...]) -> None:
        seen.append((stage.outs[0].name, tuple(outs[0].shape)))

    to_torch(program)(torch.randn(2, 3, 9, 9), on_stage=show)
    assert seen[:3] == [("y", (2, 4, 5, 5)), ("a", (2, 4, 5, 5)), ("p", (2, 4))]
    assert len(seen) == len(program.stages)


def test_inputs_that_contradict_the_program_are_named():
    program, _ = network()
    fn = to_torch(program)
    with pytest.raises(UnsupportedInput, match=r"input x: axis 2 is 8, expected 9 = 9"):
        fn(torch.randn(1, 3, 8, 9))
    with pytest.raises(UnsupportedInput, match=r"input x has shape \(3, 9, 9\), expected rank 4"):
        fn(torch.randn(3, 9, 9))
    with pytest.raises(UnsupportedInput, match=r"symbol s0 = 65 is outside its range"):
        fn(torch.randn(65, 3, 9, 9))
    with pytest.raises(UnsupportedInput, match=r"takes 1 inputs \(x\), got 2"):
        fn(torch.randn(1, 3, 9, 9), torch.randn(1))
    with pytest.raises(UsageError, match="expected a real floating-point type"):
        to_torch(program, dtype=torch.int64)


def test_a_symbol_inside_an_extent_is_solved_for():
    program = parse_program("program p(x: f32[2*n+1])\nsymbol n in [0, inf]\ny: f32[n] = L[i:n] x[2*i+1]\nreturn y")
    assert to_torch(program)(torch.arange(7.0))[0].tolist() == [1, 3, 5]


def test_a_symbol_that_no_shape_tells_is_asked_for():
    program = parse_program("program p(x: f32[9])\nsymbol n in [0, 9]\ny: f32[n] = L[i:n] x[i]\nreturn y")
    assert to_torch(program)(torch.arange(9.0), symbols={"n": 2})[0].tolist() == [0, 1]
    with pytest.raises(UnsupportedInput, match=r"needs n, which no input binds"):
        to_torch(program)(torch.arange(9.0))


def test_a_structured_weight_needs_no_array():
    text = """program p(x: c64[12])
    weight F: c64[12,12] structure dft(12, 12, 12, -1)
    y: c64[12] = L[k:12] sum[i:12]{ F[k,i] * x[i] }
    return y"""
    x = torch.randn(12, dtype=torch.complex64)
    torch.testing.assert_close(to_torch(parse_program(text))(x)[0], torch.fft.fft(x))


def test_bfloat16_weights_come_from_their_bits():
    text = "program p(x: bf16[2])\nweight w: bf16[2]\ny: bf16[2] = L[i:2] x[i] * w[i]\nreturn y"
    bits = torch.tensor([1.5, -2.0], dtype=torch.bfloat16).view(torch.uint16).numpy()
    program = replace(parse_program(text), constants={"w": bits})
    assert to_torch(program)(torch.ones(2, dtype=torch.bfloat16))[0].tolist() == [1.5, -2.0]
    assert to_torch(program, dtype=torch.float64)(torch.ones(2))[0].dtype is torch.float64


def test_a_value_nobody_reads_any_more_is_freed():
    steps = ("a: f32[4] = L[i:4] x[i] + 1.0", "b: f32[4] = L[i:4] a[i] * 2.0", "c: f32[4] = L[i:4] b[i] * 3.0")
    program = parse_program("\n".join(["program p(x: f32[4])", *steps, "return c"]))
    assert TorchFunction(program, None, None, check=False, fast=True)._last == [("x",), ("a",), ("b",)]


def test_ten_thousand_stages_and_ten_thousand_terms():
    builder = Builder()
    x = tensor("x", (2,), DType.F64)
    last = x
    for _ in range(10_000):
        last = builder.compute("t", (2,), lambda i, t=last: t[i] + 1.0)
    deep = x[0]
    for _ in range(10_000):
        deep = deep + const(1.0, DType.F64)
    end = Compute((tensor("d", (), DType.F64),), (), (deep,))
    program = Program("p", (x,), (), (*builder.stages, end), (last, *end.outs))
    given = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    value, single = to_torch(program)(given)
    value.sum().backward()
    assert (value.tolist(), single.item(), given.grad is not None and given.grad.tolist()) == (
        [1e4, 1e4],
        1e4,
        [1.0, 1.0],
    )


def test_arrays_of_the_program_are_left_alone():
    program, _ = network()
    before = {k: v.copy() for k, v in program.constants.items()}
    to_torch(program)(torch.randn(1, 3, 9, 9))
    assert all(np.array_equal(before[k], v) for k, v in program.constants.items())
