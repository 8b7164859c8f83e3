from __future__ import annotations

import math

import pytest
import torch
from frontend.checking import check_lowering, check_table

TABLE = {
    "sort": lambda x: torch.sort(x, stable=True),
    "sort down": lambda x: torch.sort(x, dim=0, descending=True, stable=True),
    "sort values": lambda x: torch.sort(x)[0],
    "argsort": lambda x: torch.argsort(x, dim=1, stable=True),
    "msort": torch.msort,
    "topk": lambda x: torch.topk(x, 2),
    "topk smallest": lambda x: torch.topk(x, 2, dim=0, largest=False),
    "kthvalue": lambda x: torch.kthvalue(x, 2),
    "kthvalue keep": lambda x: torch.kthvalue(x, 1, 0, keepdim=True),
    "median": torch.median,
    "median dim": lambda x: torch.median(x, 1),
    "nanmedian": torch.nanmedian,
    "nanmedian dim": lambda x: torch.nanmedian(x, 1)[0],
    "nanmedian keep": lambda x: torch.nanmedian(x, 0, keepdim=True)[0],
    "median keep": lambda x: torch.median(x, 0, keepdim=True),
}


def distinct(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randperm(math.prod(shape), generator=generator).reshape(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8], ids=str)
def test_order(dtype):
    check_table(TABLE, distinct(4, 5).to(dtype))


def test_order_of_run_time_extents():
    check_table(
        TABLE, distinct(4, 5).float(), dynamic=True, also=[(distinct(7, 3).float(),), (distinct(2, 2).float(),)]
    )


def test_not_a_number_sorts_last():
    x = torch.tensor([[3.0, math.nan, 1.0], [math.inf, -1.0, math.nan], [1.0, 2.0, 3.0]])
    check_table({k: f for k, f in TABLE.items() if k != "kthvalue keep"}, x)


def test_searching_stays_whole():
    x = torch.arange(4.0)
    check_lowering(lambda v: torch.searchsorted(v, v + 0.5), x, opaque=["aten.searchsorted.Tensor"])
    check_lowering(lambda v: torch.mode(v)[0], x, opaque=["aten.mode.default"])
    check_lowering(lambda v: torch.unique(v), x, opaque=["aten._unique2.default"])
