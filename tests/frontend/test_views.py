from __future__ import annotations

import pytest
import torch
from frontend.checking import check_lowering, check_table

aten = torch.ops.aten
VIEWS = {
    "view": lambda x: x.view(2, 6, 5),
    "view merge": lambda x: x.view(12, 5),
    "view mixed": lambda x: x.view(6, 10),
    "view -1": lambda x: x.view(-1),
    "reshape": lambda x: x.permute(2, 0, 1).reshape(15, 4),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "ravel": torch.ravel,
    "squeeze": lambda x: x[:, :1].squeeze(),
    "squeeze dim": lambda x: x[:, :1].squeeze(1),
    "squeeze kept": lambda x: x.squeeze(1),
    "squeeze dims": lambda x: x[:1, :1].squeeze((0, 1)),
    "unsqueeze": lambda x: x.unsqueeze(-1).unsqueeze(0),
    "permute": lambda x: x.permute(2, 0, 1),
    "permute negative": lambda x: x.permute(-1, 0, -2),
    "transpose": lambda x: x.transpose(0, -1),
    "t": lambda x: x[0].t(),
    "T": lambda x: x[0].T,
    "mT": lambda x: x.mT,
    "mH": lambda x: x.mH,
    "movedim": lambda x: x.movedim(0, 2),
    "movedim many": lambda x: x.movedim((0, 2), (1, 0)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "expand": lambda x: x[:, :1].expand(3, 4, 5),
    "expand front": lambda x: x[0, 0].expand(2, -1),
    "expand_as": lambda x: x[:1].expand_as(x),
    "broadcast_to": lambda x: torch.broadcast_to(x[0], (2, 4, 5)),
    "flip": lambda x: x.flip(0, -1),
    "fliplr": torch.fliplr,
    "roll": lambda x: x.roll(1, 0),
    "roll two": lambda x: x.roll((2, -3), (1, 2)),
    "roll flat": lambda x: x.roll(7),
    "rot90": lambda x: torch.rot90(x, 1, (0, 2)),
    "repeat": lambda x: x.repeat(2, 1, 3),
    "repeat front": lambda x: x.repeat(2, 1, 1, 2),
    "tile": lambda x: x.tile(2),
    "repeat_interleave": lambda x: x.repeat_interleave(2),
    "repeat_interleave 1": lambda x: x.repeat_interleave(3, 1),
    "atleast_3d": lambda x: torch.atleast_3d(x[0, 0]),
    "view_copy": lambda x: torch.view_copy(x, (5, 12)),
    "unsqueeze_copy": lambda x: torch.unsqueeze_copy(x, 1),
    "as view": lambda x: x.view_as(torch.empty(20, 3)),
}
PARTS = {
    "slice": lambda x: x[1:],
    "slice both": lambda x: x[:, 1:3],
    "slice negative": lambda x: x[:, -3:-1],
    "slice beyond": lambda x: x[:, -30:30],
    "slice none": lambda x: x[:, 3:1],
    "slice past": lambda x: x[7:9],
    "step": lambda x: x[..., ::2],
    "step from": lambda x: x[..., 1:5:3],
    "select": lambda x: x[1],
    "select negative": lambda x: x[:, -1],
    "select last": lambda x: x.select(2, 3),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "narrow negative": lambda x: x.narrow(1, -2, 2),
    "ellipsis": lambda x: x[..., None, 0],
    "split": lambda x: x.split(2, 1),
    "split rest": lambda x: x.split(3, 2),
    "split sizes": lambda x: x.split([1, 3], 1),
    "second part only": lambda x: x.split(2, 1)[1],
    "chunk": lambda x: x.chunk(3, 1),
    "tensor_split": lambda x: x.tensor_split(2, 2),
    "tensor_split at": lambda x: x.tensor_split((1, 3), 2),
    "hsplit": lambda x: torch.hsplit(x, 2),
    "unbind": lambda x: x.unbind(1),
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "diagonal above": lambda x: x.diagonal(2, 0, 2),
    "diagonal below": lambda x: x.diagonal(-1, 2, 1),
    "diag": lambda x: torch.diag(x[0]),
    "diag vector": lambda x: torch.diag(x[0, 0], 1),
    "diag_embed": lambda x: torch.diag_embed(x[0]),
    "diag_embed below": lambda x: torch.diag_embed(x[0], -2, 0, 2),
    "as_strided": lambda x: x.as_strided((3, 4), (20, 2), 1),
    "as_strided overlap": lambda x: x.as_strided((5, 4), (4, 3)),
    "as_strided first": lambda x: x.as_strided((2, 2), (1, 1)),
    "windows": lambda x: x.unfold(1, 2, 1),
}
JOINS = {
    "cat": lambda x, y: torch.cat([x, y, x], 1),
    "cat last": lambda x, y: torch.cat([x, y], -1),
    "cat types": lambda x, y: torch.cat([x, y.double()]),
    "cat empty": lambda x, y: torch.cat([torch.empty(0), x]),
    "cat one": lambda x, y: torch.cat([x]),
    "stack": lambda x, y: torch.stack([x, y, y], 1),
    "stack last": lambda x, y: torch.stack([x, y], -1),
    "hstack": lambda x, y: torch.hstack([x, y]),
    "vstack": lambda x, y: torch.vstack([x, y]),
    "dstack": lambda x, y: torch.dstack([x, y]),
    "column_stack": lambda x, y: torch.column_stack([x, y]),
    "meshgrid": lambda x, y: torch.meshgrid(x[0, 0], y[0, :, 0], indexing="ij"),
    "meshgrid xy": lambda x, y: torch.meshgrid(x[0, 0], y[0, :, 0], x[:, 0, 0], indexing="xy"),
    "cartesian_prod": lambda x, y: torch.cartesian_prod(x[0, 0], y[0, 1]),
    "block_diag": lambda x, y: torch.block_diag(x[0], y[1]),
    "slice_scatter": lambda x, y: torch.slice_scatter(x, y[:, :2], 1, 1, 3),
    "slice_scatter step": lambda x, y: torch.slice_scatter(x, y[..., :2], 2, 1, 5, 2),
    "select_scatter": lambda x, y: torch.select_scatter(x, y[0], 0, -1),
    "diagonal_scatter": lambda x, y: torch.diagonal_scatter(x, y[:3, :, 0], 1, 1, 2) if x.shape[1] == 4 else x,
    "as_strided_scatter": lambda x, y: torch.as_strided_scatter(x, y[0], (4, 5), (1, 7), 3),
    "assigned": lambda x, y: assigned(x, y),
}


def assigned(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    z = x.clone()
    z[1] = y[0]
    z[:, 2:] += 1
    z[0, :, ::2] = 7.0
    z[..., -1].mul_(2)
    return z


def numbered(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bool, torch.bfloat16, torch.complex64], ids=str)
def test_views_and_parts(dtype):
    check_table({**VIEWS, **PARTS}, numbered(3, 4, 5, dtype=dtype))


def test_joins():
    check_table(JOINS, numbered(3, 4, 5), -numbered(3, 4, 5))
    check_table(
        {k: JOINS[k] for k in ("cat", "stack", "cat types")}, numbered(2, 3, dtype=torch.int64), -numbered(2, 3)
    )


DYNAMIC = {
    "view": lambda x: x.view(x.shape[0], -1),
    "merge": lambda x: x.reshape(-1, x.shape[2]),
    "heads": lambda x: x.view(x.shape[0], x.shape[1], 3, 2).transpose(1, 2),
    "unheads": lambda x: x.view(x.shape[0], x.shape[1], 3, 2).transpose(1, 2).reshape(x.shape[0], -1, 2),
    "flat": lambda x: x.flatten(),
    "pairs": lambda x: x.reshape(x.shape[0], x.shape[1] * 2, 3),
    "expand": lambda x: x[:, :1].expand(-1, x.shape[1], -1),
    "slice": lambda x: x[:, 1:],
    "slice last": lambda x: x[:, -1:],
    "slice up to": lambda x: x[:, : x.shape[1] - 1],
    "last": lambda x: x[:, -1],
    "first": lambda x: x[0],
    "step": lambda x: x[:, ::2],
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(1, 1),
    "repeat": lambda x: x.repeat(2, 3, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "cat": lambda x: torch.cat([x, x[:, :1], x], 1),
    "stack": lambda x: torch.stack([x, x], 1),
    "halves": lambda x: torch.cat([x[..., 3:], -x[..., :3]], -1),
    "diagonal": lambda x: x[:, :, :1].expand(-1, -1, x.shape[1]).diagonal(0, 1, 2),
    "slice_scatter": lambda x: torch.slice_scatter(x, x[:, 1:] * 2, 1, 0, x.shape[1] - 1),
    "select_scatter": lambda x: torch.select_scatter(x, x[:, 0], 1, -1),
    "permute": lambda x: x.permute(2, 1, 0),
    "unbind": lambda x: x.unbind(2),
}


def test_run_time_extents():
    sizes = [(numbered(n, m, 6),) for n, m in ((2, 5), (3, 7), (9, 2))]
    axes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)
    check_table(DYNAMIC, numbered(4, 8, 6), dynamic=axes, also=sizes)


def test_no_axes_and_no_elements():
    table = {
        "view": lambda x: x.view(1),
        "unsqueeze": lambda x: x.unsqueeze(0),
        "expand": lambda x: x.expand(3),
        "flip": lambda x: x.flip(0),
        "repeat": lambda x: x.repeat(2),
        "squeeze": lambda x: x.squeeze(),
        "transpose": lambda x: x.transpose(0, 0),
        "atleast_2d": torch.atleast_2d,
        "stack": lambda x: torch.stack([x, x]),
        "roll": lambda x: x.roll(1),
    }
    check_table(table, torch.tensor(2.0))
    empty = {
        "view": lambda x: x.view(0, 5, 3),
        "merge": lambda x: x.reshape(15, 0),
        "slice": lambda x: x[1:],
        "flip": lambda x: x.flip(0),
        "roll": lambda x: x.roll(1, 1),
        "cat": lambda x: torch.cat([x, x]),
        "cat full": lambda x: torch.cat([x, torch.ones(2, 0, 5)]),
        "repeat": lambda x: x.repeat(2, 3, 2),
        "permute": lambda x: x.permute(1, 0, 2),
        "split": lambda x: x.split(1),
    }
    check_table(empty, torch.empty(3, 0, 5))


def test_an_identity_view_is_its_source():
    same = {
        "view": lambda x: x.view(3, 4),
        "slice": lambda x: x[:],
        "expand": lambda x: x.expand(3, 4),
        "permute": lambda x: x.permute(0, 1),
        "squeeze": lambda x: x.squeeze(),
    }
    assert check_table(same, numbered(3, 4)).algebra.stages == ()


def test_a_split_of_heads_is_an_index_map():
    traced = check_lowering(lambda x: x.view(2, 7, 3, 4), numbered(2, 7, 12))
    (stage,) = traced.algebra.stages
    assert str(stage.bodies[0].indices) == "(i0, i1, 4*i2+i3)"


def test_strides_follow_the_memory_of_a_transposed_source():
    check_lowering(lambda x: x.t().as_strided((2, 3), (1, 2), 1), numbered(3, 4))
    check_lowering(lambda x: x.permute(2, 0, 1).as_strided((5, 2), (3, 1)), numbered(2, 3, 4))


def test_strides_over_a_part_of_other_memory_stay_whole():
    traced = check_lowering(
        lambda x: x[:, 1:].as_strided((2, 2), (4, 1)), numbered(3, 4), opaque=["aten.as_strided.default"]
    )
    (reason,) = traced.reasons.values()
    assert reason.endswith("which is a part of other memory, have no index map")
