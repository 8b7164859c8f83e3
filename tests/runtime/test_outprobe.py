from __future__ import annotations

from typing import Any

import pytest
import torch

from tpopt.backend.call import Call, Ref
from tpopt.backend.operators import function, out_function
from tpopt.runtime.outprobe import OutProbe

X = torch.randn(2, 8, 40, 40, generator=torch.Generator().manual_seed(0))
W = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(1))
CASES: dict[str, tuple[list[Any], bool]] = {
    "aten.add.Tensor": ([X, X], True),
    "aten.mm.default": ([X.reshape(-1, 40), X[0, 0]], True),
    "aten.convolution.default": ([X, W, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1], False),
    "aten.relu.default": ([X], False),
}


def probe(target: str, args: list[Any], result: torch.Tensor | None = None, **changes: Any) -> bool:
    made = Call(target, function(target), tuple(args), (), ("y",), out_function=out_function(target))
    call = Call(**{**vars(made), **changes})
    with torch.no_grad():
        return OutProbe().writes_in_place(call, args, {}, call.function(*args) if result is None else result)


@pytest.mark.parametrize("target", CASES)
def test_whether_out_writes_where_it_is_told_is_seen_not_read_from_the_name(target: str):
    args, expected = CASES[target]
    assert probe(target, args) is expected


def test_an_operator_without_an_out_form_is_not_placed():
    assert probe("aten.add.Tensor", [X, X], out_function=None) is False


def broken(*args: Any, out: torch.Tensor) -> torch.Tensor:
    return out.copy_(args[0])


def refusing(*args: Any, out: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


@pytest.mark.parametrize("form", [broken, refusing])
def test_an_out_form_that_yields_something_else_is_not_used(form: Any):
    assert probe("aten.add.Tensor", [X, X], out_function=form) is False


def test_an_out_form_that_moves_its_buffer_is_not_used():
    def moves(*args: Any, out: torch.Tensor) -> torch.Tensor:
        return out.set_((args[0] + args[1]).untyped_storage(), 0, X.shape)

    assert probe("aten.add.Tensor", [X, X], out_function=moves) is False


def test_nan_equals_nan_but_no_number():
    x = X.clone()
    x[0] = float("nan")
    assert probe("aten.add.Tensor", [x, x]) is True
    assert probe("aten.add.Tensor", [x, x], result=X + X) is False


def test_a_verdict_is_remembered_for_its_shape_strides_and_type():
    asked = []

    def spy(*args: Any, out: torch.Tensor) -> torch.Tensor:
        asked.append(args[0].shape)
        return torch.add(*args, out=out)

    seen, call = OutProbe(), Call("add", torch.add, (Ref("x"),), (), ("y",), out_function=spy)
    for x in (X, X.clone(), X[:1], X.transpose(2, 3), X.double()):
        seen.writes_in_place(call, [x, x], {}, x + x)
    assert len(asked) == 4


def test_a_user_who_profiles_sees_the_calls_and_keeps_the_profiler():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        assert probe("aten.add.Tensor", [X, X]) is False
        torch.sin(X)
    assert "aten::sin" in {e.name for e in seen.events()}
