"""Memory that kernels may ask for beyond a tensor's ends."""

from __future__ import annotations

import pytest
import torch

import tpopt
from tpopt.backend.margins import MOST_BYTES, PAGE, copied, margin_of, with_margins
from tpopt.runtime.executable import Executable


def test_there_is_touched_memory_on_both_sides():
    made = with_margins(1000, torch.device("cpu"))
    whole = torch.as_strided(made, (2 * PAGE + 1000,), (1,), 0)
    assert made.numel() == 1000
    assert not whole[:PAGE].any()
    assert not whole[PAGE + 1000 :].any()
    assert margin_of(50 << 20) == MOST_BYTES


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_copy_has_the_values_and_the_strides(dtype: torch.dtype, layout: torch.memory_format):
    given = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(dtype).contiguous(memory_format=layout)
    found = copied(given)
    assert torch.equal(found, given)
    assert found.stride() == given.stride()
    assert found.storage_offset() * found.element_size() == PAGE


def test_what_is_not_dense_stays_as_it_is():
    whole = torch.randn(6, 8)
    for given in (whole[:, ::2], whole[:0], torch.randn(3, dtype=torch.complex64).conj()):
        assert copied(given) is given


def test_a_plans_arena_lies_in_such_memory(monkeypatch: pytest.MonkeyPatch):
    made, expected = list[int](), set[int]()
    new = Executable._new_arena

    def seen(self: Executable) -> list[torch.Tensor]:
        arena = new(self)
        made.extend(t.untyped_storage().nbytes() - self.memory.arena_bytes for t in arena)
        expected.add(2 * margin_of(self.memory.arena_bytes))
        return arena

    monkeypatch.setattr(Executable, "_new_arena", seen)
    model = torch.nn.Sequential(*(torch.nn.Conv2d(c, k, 3) for c, k in ((3, 32), (32, 32), (32, 8)))).eval()
    example = torch.randn(1, 3, 48, 48)
    compiled = tpopt.compile(model, (example,), effort="fast", gate=False, choice="model", kernels="generated")
    with torch.no_grad():
        for _ in range(3):
            compiled(example)
    assert made
    assert set(made) == expected
