"""Strassen's form multiplies matrices, and rounds as is predicted."""

from __future__ import annotations

import numpy as np
import pytest

from tpopt.errors import InvalidProgram
from tpopt.ir import DType, Structure, Tensor
from tpopt.ir.materialize import materialize
from tpopt.ir.strassen import PRODUCTS, TENSORS, amplification


def test_it_multiplies_blocks():
    """The form is the tensor of matrix multiplication: ones where the indices of the three matrices meet."""
    left, right, sums = (TENSORS[part] for part in ("left", "right", "sums"))
    form = np.einsum("pil,pmj,xyp->ilmjxy", left, right, sums)
    eye = np.eye(2, dtype=np.int64)
    assert np.array_equal(form, np.einsum("lm,ix,jy->ilmjxy", eye, eye, eye))
    assert sums.shape[-1] == PRODUCTS < 8


def test_the_measured_error_is_what_is_predicted():
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((128, 128)).astype(np.float32) for _ in range(2))
    exact = a.astype(float) @ b.astype(float)
    blocks = [m.reshape(2, 64, 2, 64).swapaxes(1, 2) for m in (a, b)]
    parts = [
        np.einsum("pij,ijmn->pmn", TENSORS[part].astype(np.float32), m, dtype=np.float32)
        for part, m in zip(("left", "right"), blocks, strict=True)
    ]
    whole = np.einsum("xyp,pmn->xmyn", TENSORS["sums"].astype(np.float32), _plain(*parts)).reshape(128, 128)
    errors = [np.linalg.norm(v - exact) for v in (whole, _plain(a[None], b[None])[0])]
    assert 0.5 < errors[0] / errors[1] / amplification() < 2.0


def _plain(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of matrices whose terms are added up in order."""
    total = np.zeros((a.shape[0], a.shape[1], b.shape[2]), np.float32)
    for k in range(a.shape[2]):
        total += a[:, :, k, None] * b[:, None, k, :]
    return total


def tensor(shape: tuple[int, ...], *parameters: int | str) -> Tensor:
    return Tensor("b", shape, DType.F32, structure=Structure("strassen", parameters))


def test_a_structure_gives_the_values():
    assert np.array_equal(materialize(tensor((7, 2, 2), "left")), TENSORS["left"])
    assert materialize(tensor((2, 2, 7), "sums"))[0, 1].tolist() == [0, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("shape", "parameters", "reason"),
    [
        ((7, 4), ("left",), r"shape \(7, 2, 2\)"),
        ((7, 2, 2), ("middle",), "one part, of left, right, sums"),
        ((7, 2, 2), ("left", 2), "one part"),
        ((7, 2, 2), (), "one part"),
    ],
)
def test_another_structure_is_refused(shape: tuple[int, ...], parameters: tuple, reason: str):
    with pytest.raises(InvalidProgram, match=reason):
        materialize(tensor(shape, *parameters))
