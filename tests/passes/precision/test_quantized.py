"""Codes of eight bits: their scales, their algebra, and what a stage on them computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tpopt.ir import Compute, DType, Program, Tensor
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program
from tpopt.ir.program import Array
from tpopt.passes.precision.quantized import Quantized, by_axes, grid_by_channel, grid_of
from tpopt.passes.precision.storage import over

TEXT = """program p(x: f32[4,8])
weight w: f32[6,8]
h: f32[4,6] = L[i:4,j:6] sum[k:8]{ x[i,k] * w[j,k] }
return h
"""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def given() -> tuple[Quantized, Program]:
    program = replace(parse_program(TEXT), constants={"w": rng().standard_normal((6, 8)).astype(np.float32)})
    return Quantized([program], lambda t: [sample(t)]), program


def sample(tensor: Tensor) -> Array:
    return rng().standard_normal([int(str(e)) for e in tensor.shape]).astype(np.float32)


def test_a_few_large_values_are_clipped_where_that_is_better():
    values = np.concatenate([rng().standard_normal(1 << 11), [40.0]]).astype(np.float32)
    found = grid_of([values])
    assert found is not None
    assert float(found.scale.reshape(())) < float(np.ptp(values)) / 255
    assert found.values(found.codes(np.zeros(3))).reshape(-1).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("values", [np.zeros(5), np.array([1.0, np.inf]), np.empty(0)])
def test_what_tells_no_scale_has_none(values: Array):
    assert grid_of([values]) is None
    assert grid_of([]) is None


@pytest.mark.parametrize("axes", [(0,), (2,), (2, 0), (0, 2)])
def test_the_largest_number_of_a_channel_has_the_largest_code(axes: tuple[int, ...]):
    weight = rng().standard_normal((3, 5, 4))
    grid = grid_by_channel(weight, axes)
    scales = by_axes(grid.scale, axes)
    assert scales.shape == tuple(weight.shape[a] for a in axes)
    largest = np.abs(weight).max(axis=tuple(a for a in range(3) if a not in axes))
    largest = largest if sorted(axes) == list(axes) else largest.T
    assert (scales * 127 >= largest * (1 - 1e-6)).all()
    np.testing.assert_allclose(scales * 127, largest, rtol=2**-7)
    assert not (scales.astype(np.float32).view(np.uint32) & 0xFFFF).any()  # bf16 holds them
    assert np.abs(grid.quantized(weight) - weight).max() <= scales.max() / 2 + 1e-12


def test_a_channel_of_zeros_has_a_scale_too():
    assert grid_by_channel(np.zeros((2, 3)), (0,)).scale.tolist() == [[1.0], [1.0]]


def test_codes_are_algebra_that_says_what_storing_does():
    storage, program = given()
    (x,) = program.inputs
    codes = storage.narrow(x)
    assert (codes.name, codes.dtype, codes.shape) == ("x.u8", DType.U8, x.shape)
    there, back = storage.conversion(x, codes), storage.conversion(codes, Tensor("y", x.shape, DType.F32))
    beside = dict(storage.constants())
    program = Program(
        "both", (x,), tuple(beside), (there, back), back.outs, constants={t.name: v for t, v in beside.items()}
    )
    values = sample(x) * 2  # some saturate
    (got,) = interpret(program.validate(), [values])
    np.testing.assert_allclose(got, storage.rounded("x.u8", values.astype(np.float64)), atol=1e-6)


def test_a_product_of_codes_is_the_product_of_what_they_stand_for():
    storage, program = given()
    (x,), (w,), (stage,) = program.inputs, program.weights, program.stages
    made = storage.weight(w, (0,))
    assert made is not None
    assert isinstance(stage, Compute)
    twin = over(stage, {x: (storage.narrow(x), storage), w: (made[0], storage)})
    beside = dict(storage.constants())
    codes = rng().integers(0, 256, (4, 8)).astype(np.uint8)
    whole = Program(
        "twin",
        (storage.narrow(x),),
        tuple(beside),
        (twin,),
        twin.outs,
        constants={t.name: v for t, v in beside.items()},
    )
    (got,) = interpret(whole.validate(), [codes])
    scale, _, zero = beside[storage.affine(storage.narrow(x))]
    integers = (codes.astype(np.int64) - int(zero)) @ beside[made[0]].astype(np.int64).T
    np.testing.assert_allclose(got, integers * float(scale) * beside[made[1]], rtol=1e-6)


def test_a_weight_has_one_set_of_channels():
    storage, program = given()
    (w,) = program.weights
    assert storage.weight(w, (0,)) is not None
    assert storage.weight(w, (1,)) is None
