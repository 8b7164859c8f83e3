"""oneDNN's products of integers against the algebra of their candidates."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
import torch
from support.processor import exact_integers
from support.small import Residual
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.choose.candidate import Candidate, Candidates
from tpopt.choose.gather import gather
from tpopt.choose.pricing import planned
from tpopt.frontend.trace import trace
from tpopt.ir import DType, Kernel, Program, Tensor
from tpopt.ir.aten import from_numpy, torch_dtype
from tpopt.ir.interpret import interpret
from tpopt.ir.program import Array
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite import Trace, registry


class Added(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(24, 40), nn.Linear(40, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


MODELS = {
    "linear": (nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 16, bias=False)), (5, 24)),
    "added": (Added(), (2, 3, 24)),
    "residual": (Residual(), (2, 3, 16, 16)),
    "grouped": (nn.Sequential(nn.Conv2d(8, 16, 3, (2, 1), (1, 2), groups=4), nn.ReLU()), (1, 8, 9, 7)),
    "dilated": (nn.Sequential(nn.Conv2d(4, 8, 3, dilation=2, bias=False), nn.Hardswish()), (2, 4, 9, 9)),
    "volume": (nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU()), (1, 4, 5, 6, 7)),
}


def offered(model: nn.Module, shape: tuple[int, ...]) -> tuple[Candidates, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    found = trace(model.eval(), (torch.randn(shape),))
    form = registry().parse("default").run(found.algebra, Trace())
    rng = np.random.default_rng(0)

    def samples(tensor: Tensor) -> list[Array]:
        return [rng.standard_normal([int(str(e)) for e in tensor.shape]).astype(np.float32)]

    storages = [Storage([form], DType.BF16), Quantized([form], samples)]
    candidates = gather(found.original, [form], kernels="library", storages=storages)
    weights = {w.name: from_numpy(form.constants[w.name], w.dtype) for w in form.weights}
    weights |= {w.name: from_numpy(v, w.dtype) for w, v in candidates.weights.items()}
    return candidates, weights


def integer(found: Candidates) -> list[Candidate]:
    return [c for c in found.admitted if isinstance(c.stage, Kernel) and ".integer_" in c.stage.implementation]


class Product(nn.Module):
    def __init__(self, equation: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.equation, self.w = equation, nn.Parameter(torch.randn(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum(self.equation, x, self.w)


SIZES = {"a": 3, "b": 5, "k": 7, "n": 11, "m": 13}
EQUATIONS = ["ak,kn->an", "ka,nk->na", "akb,kn->abn", "abk,knm->abnm", "abk,mnk->abnm", "abk,nkm->nabm", "abk,bkn->an"]


@exact_integers
@pytest.mark.parametrize("equation", EQUATIONS)
def test_every_order_of_the_axes_has_its_scales_where_they_belong(equation: str):
    x, w = equation.partition("->")[0].split(",")
    found, weights = offered(Product(equation, tuple(SIZES[a] for a in w)), tuple(SIZES[a] for a in x))
    candidates = [c for c in integer(found) if c.stage.outs[0].dtype is DType.F32]
    assert candidates
    for candidate in candidates:
        stage = candidate.stage
        assert isinstance(stage, Kernel)
        values = {t.name: drawn(t) for t in stage.reads if t.name not in weights}
        want = torch.from_numpy(algebra(stage, values, weights))
        torch.testing.assert_close(run(candidate, values, weights), want.float(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_few_rows_times_weights_of_a_byte(bias: bool):
    found, weights = offered(nn.Linear(48, 40, bias=bias), (3, 48))
    (candidate,) = (c for c in found.admitted if c.name.endswith(".weight-i8"))
    stage = candidate.stage
    assert isinstance(stage, Kernel)
    values = {stage.reads[0].name: drawn(stage.reads[0])}
    got, want = run(candidate, values, weights), torch.from_numpy(algebra(stage, values, weights).astype(np.float64))
    assert got.dtype is torch.bfloat16
    assert (got.double() - want).norm() <= 6e-3 * want.norm()


def test_many_rows_are_not_offered_weights_of_a_byte():
    found, _ = offered(nn.Linear(48, 40), (9, 48))
    assert not [c for c in found.admitted if c.name.endswith(".weight-i8")]


def drawn(tensor: Tensor) -> torch.Tensor:
    shape = [int(str(e)) for e in tensor.shape]
    codes = torch.randint(0, 256, shape, dtype=torch.uint8)
    return codes if tensor.dtype is DType.U8 else torch.randn(shape).to(torch_dtype(tensor.dtype))


@exact_integers
@pytest.mark.parametrize("name", MODELS)
def test_integers_compute_what_their_algebra_says(name: str):
    found, weights = offered(*MODELS[name])
    candidates = integer(found)
    assert {c.stage.outs[0].dtype for c in candidates} == {DType.F32, DType.BF16, DType.U8}
    for candidate in candidates:
        stage = candidate.stage
        assert isinstance(stage, Kernel)
        values = {t.name: drawn(t) for t in stage.reads if t.name not in weights}
        want = algebra(stage, values, weights)
        got = run(candidate, values, weights)
        if stage.outs[0].dtype is DType.U8:
            assert (got.int() - torch.from_numpy(want).int()).abs().max() <= 1  # of a code: ties and nothing else
            assert ((got.int() - torch.from_numpy(want).int()) != 0).double().mean() < 0.02
        else:
            limit = 1e-5 if stage.outs[0].dtype is DType.F32 else 4e-3
            exact = torch.from_numpy(want.astype(np.float64))
            assert (got.double() - exact).norm() <= limit * exact.norm()


def algebra(stage: Kernel, values: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> Array:
    """What the stages of a kernel compute in float64, stored once."""
    moving = tuple(t for t in stage.reads if t.name in values)
    constants = tuple(dict.fromkeys(t for t in stage.reads if t.name in weights))
    numbers = {t.name: weights[t.name].numpy() for t in constants}
    program = Program("algebra", moving, constants, stage.defines, stage.outs, constants=MappingProxyType(numbers))
    wide = [values[t.name].float().numpy() if t.dtype is DType.BF16 else values[t.name].numpy() for t in moving]
    (result,) = interpret(program.validate(), wide)
    return np.asarray(result)


def run(candidate: Candidate, values: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the kernel makes of the values, each in the layout that it asks for."""
    known = {**weights, **values}
    known |= {f"{n}.cl": t.to(memory_format=torch.channels_last) for n, t in values.items() if t.dim() == 4}
    before = {n: t.clone() for n, t in known.items()}
    call = Binder(weights).bind(planned(candidate), {})
    with torch.no_grad():
        args, kwargs = call.fill(known.__getitem__)
        result: torch.Tensor = call.function(*args, **kwargs)
    assert all(torch.equal(before[n], known[n]) for n in before)  # oneDNN's sum is written over what it adds
    return result


def test_a_transposed_convolution_has_no_twin_on_codes():
    model = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, 2)).eval()
    found = trace(model, (torch.randn(1, 4, 5, 5),))
    form = registry().parse("default").run(found.algebra, Trace())
    storages = [Quantized([form], lambda t: [np.ones([int(str(e)) for e in t.shape], np.float32)])]
    assert not integer(gather(found.original, [form], kernels="library", storages=storages))


def test_a_tensor_without_samples_has_no_codes():
    model = MODELS["linear"][0].eval()
    found = trace(model, (torch.randn(5, 24),))
    form = registry().parse("default").run(found.algebra, Trace())
    assert not integer(gather(found.original, [form], kernels="library", storages=[Quantized([form], lambda _: [])]))


def test_where_sums_saturate_no_integers_are_offered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpopt.choose.integer.integers_are_exact", lambda: False)
    found, _ = offered(*MODELS["linear"])
    assert integer(found) == []
    assert any("saturate at 16 bits" in r.reason for r in found.refused if r.name.endswith(".i8"))
