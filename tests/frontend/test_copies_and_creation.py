from __future__ import annotations

import torch
from frontend.checking import check_lowering, check_table

aten = torch.ops.aten
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]


def test_every_cast():
    x = torch.tensor([[0.0, 1.0, 2.5, 100.0], [3.99, 0.2, 7.0, 1.0]])
    table = {str(t): lambda v, t=t: v.to(t) for t in [*TYPES, torch.complex64]}
    for source in TYPES:
        check_table({k: f for k, f in table.items() if k != str(source)}, x.to(source))


def test_casts_by_other_names():
    x = torch.tensor([1.5, -2.0])
    table = {
        "type_as": lambda v: v.type_as(torch.ones(1, dtype=torch.float64)),
        "double": lambda v: v.double(),
        "to other": lambda v: v.to(torch.ones(1, dtype=torch.float16)),
        "_to_copy": lambda v: aten._to_copy.default(v, dtype=torch.int32),
        "real of complex": lambda v: torch.complex(v, v).real,
    }
    check_table(table, x)


def test_copies_that_change_nothing_cost_nothing():
    table = {
        "clone": torch.clone,
        "contiguous": lambda v: v.contiguous(),
        "detach": lambda v: v.detach(),
        "same type": lambda v: v.to(torch.float32),
        "alias": aten.alias.default,
        "dropout": lambda v: torch.nn.functional.dropout(v, 0.5, training=False),
        "dropout2d": lambda v: torch.nn.functional.dropout2d(v, 0.5, training=False),
        "alpha_dropout": lambda v: torch.nn.functional.alpha_dropout(v, 0.5, training=False),
        "positive": lambda v: +v,
    }
    assert check_table(table, torch.randn(2, 3, 4, 5)).algebra.stages == ()


def test_native_dropout_at_inference_keeps_everything():
    traced = check_lowering(lambda x: aten.native_dropout.default(x, 0.5, False), torch.randn(2, 3))
    assert [o.name for s in traced.algebra.stages for o in s.outs] == ["native_dropout.1"]


def test_dropout_in_training_stays_whole_and_says_why():
    check_lowering(lambda x: aten.native_dropout.default(x, 0.0, True)[0], torch.ones(2))
    traced = check_lowering(
        lambda x: torch.nn.functional.dropout(x, 0.5) * 0, torch.ones(2), opaque=["aten.native_dropout.default"]
    )
    assert list(traced.reasons.values()) == ["dropout in training draws random numbers; call eval() on the model"]


def test_copy_and_fill():
    table = {
        "copy": lambda a, b: aten.copy.default(a, b),
        "fill": lambda a, b: aten.fill.Scalar(a, 3),
        "fill tensor": lambda a, b: aten.fill.Tensor(a, b[0]),
        "in place": lambda a, b: a.clone().copy_(b).fill_(2.5),
    }
    check_table(table, torch.randn(3, 4), torch.arange(4))


CREATION = {
    "zeros": lambda x: torch.zeros(2, 3),
    "ones": lambda x: torch.ones(2, 3, dtype=torch.int32),
    "full": lambda x: torch.full((2,), 7),
    "full float": lambda x: torch.full((2,), 0.1, dtype=torch.float64),
    "full complex": lambda x: torch.full((2,), 1 + 2j),
    "zeros_like": torch.zeros_like,
    "ones_like": lambda x: torch.ones_like(x, dtype=torch.float64),
    "full_like": lambda x: torch.full_like(x, 2.5),
    "new_zeros": lambda x: x.new_zeros(3),
    "new_ones": lambda x: x.new_ones(3, 2),
    "new_full": lambda x: x.new_full((2, 2), 3.5),
    "arange": lambda x: torch.arange(5),
    "arange start": lambda x: torch.arange(3, 9),
    "arange step": lambda x: torch.arange(1, 10, 3),
    "arange float": lambda x: torch.arange(0.5, 3.0, 0.3),
    "arange down": lambda x: torch.arange(5, -5, -2),
    "arange typed": lambda x: torch.arange(4, dtype=torch.float16),
    "scalar_tensor": lambda x: torch.scalar_tensor(2.5),
    "eye": lambda x: torch.eye(3),
    "eye m": lambda x: torch.eye(2, 4, dtype=torch.int64),
    "linspace": lambda x: torch.linspace(-1, 2, 7),
    "linspace one": lambda x: torch.linspace(3, 9, 1),
    "linspace none": lambda x: torch.linspace(3, 9, 0),
    "tril": lambda x: torch.tril(x),
    "triu": lambda x: torch.triu(x, 1),
    "tril below": lambda x: torch.tril(x, -2),
    "triu all": lambda x: torch.triu(x, -9),
    "tril_indices": lambda x: torch.tril_indices(4, 3, 1),
    "triu_indices": lambda x: torch.triu_indices(3, 5, -1),
    "one_hot": lambda x: torch.nn.functional.one_hot(torch.arange(3), 5),
    "window": lambda x: torch.hann_window(8),
    "constant": lambda x: torch.tensor([1.0, 2.0]) + x[0, :2],
}


def test_creation():
    check_table(CREATION, torch.randn(4, 5))


def test_creation_from_run_time_extents():
    table = {
        "zeros": lambda x: torch.zeros(x.shape[0], 2),
        "arange": lambda x: torch.arange(x.shape[0]),
        "arange start": lambda x: torch.arange(2, x.shape[0] + 2, dtype=torch.float32),
        "arange step": lambda x: torch.arange(0, x.shape[0] * 2, 2),
        "causal": lambda x: torch.tril(torch.ones(x.shape[0], x.shape[0])),
        "masked": lambda x: torch.full((x.shape[0], x.shape[0]), float("-inf")).triu(1),
        "eye": lambda x: torch.eye(x.shape[0]),
        "ones_like": torch.ones_like,
    }
    check_table(
        table, torch.randn(4, 3), dynamic=({0: torch.export.Dim("n", min=2, max=64)},), also=[(torch.randn(9, 3),)]
    )


def test_an_empty_tensor_has_some_value():
    traced = check_lowering(lambda x: torch.empty(2, 3).shape[0] * x, torch.randn(2))
    assert not traced.reasons
    check_lowering(lambda x: torch.empty_like(x).copy_(x), torch.randn(2))
    check_lowering(lambda x: torch.empty(3).fill_(1.0) + x, torch.randn(3))
