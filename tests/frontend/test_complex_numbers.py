from __future__ import annotations

import math

import pytest
import torch
from frontend.checking import check_lowering, check_table


def parts(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*shape), torch.randn(*shape)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_parts_of_complex_numbers(dtype):
    table = {
        "real": lambda z: z.real,
        "imag": lambda z: z.imag,
        "conj": torch.conj,
        "conj_physical": torch.conj_physical,
        "resolved": lambda z: z.conj().resolve_conj() * 2,
        "negated imag": lambda z: z.conj().imag,
        "abs": torch.abs,
        "angle": torch.angle,
        "sgn": torch.sgn,
        "as real": torch.view_as_real,
        "there and back": lambda z: torch.view_as_complex(torch.view_as_real(z)),
        "adjoint": lambda z: z.mH,
        "matrix_H": lambda z: z.T.conj(),
        "isreal": torch.isreal,
    }
    check_table(table, torch.complex(*parts(3, 4)).to(dtype))


def test_complex_numbers_from_parts():
    table = {
        "complex": torch.complex,
        "polar": lambda a, b: torch.polar(a.abs(), b),
        "view_as_complex": lambda a, b: torch.view_as_complex(torch.stack([a, b], -1)),
    }
    check_table(table, *parts(3, 4))
    check_table(table, *(p.double() for p in parts(3)))


def test_parts_of_real_numbers():
    x = torch.tensor([1.0, -2.0, 0.0, -0.0, math.nan])
    check_table({"angle": torch.angle, "real": torch.real, "conj": torch.conj, "isreal": torch.isreal}, x)
    check_lowering(torch.angle, torch.tensor([1, -1]))


def test_reductions_and_products_of_complex_numbers():
    table = {
        "sum": lambda z: z.sum(0),
        "mean": lambda z: z.mean(1),
        "prod": lambda z: z.prod(1),
        "var": lambda z: z.var(1),
        "norm": lambda z: torch.linalg.vector_norm(z, dim=1),
        "norm 1": lambda z: torch.linalg.vector_norm(z, 1),
        "norm inf": lambda z: torch.linalg.vector_norm(z, math.inf, dim=0),
        "cumsum": lambda z: z.cumsum(0),
        "where": lambda z: torch.where(z.real > 0, z, 0),
    }
    rows = ({0: torch.export.Dim.AUTO},)
    check_table(table, torch.complex(*parts(3, 4)), dynamic=rows, also=[(torch.complex(*parts(5, 4)),)])
