from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from support.kernels import Wrapped, offer
from torch import Tensor, nn

from tpopt.backend.binding import Binder
from tpopt.backend.library import library_candidates
from tpopt.choose.candidate import Candidates
from tpopt.choose.pricing import planned
from tpopt.frontend.trace import trace
from tpopt.ir.aten import from_numpy
from tpopt.rewrite import Trace, registry

TRIANGLE = torch.tril(torch.ones(7, 7)).bool()
DISTANCE = (torch.arange(7)[:, None] - torch.arange(7)).abs().float()


class Const(nn.Module):
    """A mask."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("m", values)


def attend(scores: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def run(m: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(scores(q @ k.transpose(-2, -1), m.m), -1) @ v

    return run


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "plain": (lambda s, m: s, TRIANGLE),
    "scaled": (lambda s, m: s / math.sqrt(8) * 0.5, TRIANGLE),
    "hidden": (lambda s, m: (s * 0.3).masked_fill(~m, -math.inf), TRIANGLE),
    "visible": (lambda s, m: torch.where(m, s, torch.finfo(torch.float32).min), TRIANGLE[None, None]),
    "added": (lambda s, m: s * 0.3 + m, -DISTANCE),
    "added with infinities": (lambda s, m: m + s, torch.where(TRIANGLE, -DISTANCE, -math.inf)),
}
TAKEN_APART = ["attention.products", "attention.onednn_graph"]
SHAPES = {"heads": (2, 3), "one batch": (1, 3), "no batch": (), "one axis": (3,), "three axes": (2, 1, 3)}


def qkv(*lead: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*lead, n, d, generator=generator) for n, d in ((7, 8), (7, 8), (7, 5))]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lead", SHAPES.values(), ids=SHAPES)
def test_attention_written_out_is_one_call(form: str, lead: tuple[int, ...]):
    scores, mask = FORMS[form]
    made = offer(attend(scores), *qkv(*lead), parts=(Const(mask),))
    if form == "visible" and len(lead) < 2:
        made = offer(attend(scores), *qkv(*lead), parts=(Const(mask[0, 0]),))
    candidates = made.named("attention")
    assert [c.stage.implementation for c in candidates] == ["attention.sdpa", *TAKEN_APART]
    for candidate in candidates:
        torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)
        assert candidate.produces[0].name == made.cleaned.outputs[0].name


@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_attention_of_torch_is_taken_apart_into_products(scale: float | None):
    made = offer(lambda q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, scale=scale), *qkv(2, 3))
    assert [c.stage.implementation for c in made.named("attention")] == TAKEN_APART
    for candidate in made.named("attention"):
        torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


def test_causal_attention_of_torch_stays_whole():
    made = offer(lambda q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True), *qkv(2, 3))
    assert made.named("attention") == []


def test_heads_that_are_slices_of_one_product_are_viewed():
    def packed(x: Tensor) -> Tensor:
        q, k, v = x.view(2, 7, 3, 4, 8).permute(2, 0, 3, 1, 4)
        return (torch.softmax(q @ k.transpose(-2, -1), -1) @ v).transpose(1, 2).reshape(2, 7, 32)

    made = offer(packed, torch.randn(2, 7, 96))
    for candidate in made.named("attention"):
        assert [v.name for v in candidate.needs] == ["args_0"]
        found = made.run(candidate).transpose(1, 2).reshape(2, 7, 32)
        torch.testing.assert_close(found, made.expected(), rtol=2e-5, atol=2e-5)


REFUSED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, str]] = {
    "a hidden score that counts": (lambda s, m: s.masked_fill(~m, -5.0), TRIANGLE, "hidden scores are -5.0, which"),
    "masked, then scaled": (lambda s, m: (s + m) * 0.3, DISTANCE, "the scores are masked before they are scaled"),
    "bent": (lambda s, m: torch.tanh(s), TRIANGLE, "between the scores and softmax is more than a scale"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_would_compute_otherwise_is_left_alone(case: str):
    scores, mask, reason = REFUSED[case]
    made = offer(attend(scores), *qkv(2, 3), parts=(Const(mask),))
    assert made.named("attention") == []
    assert any(r.startswith(reason) for r in made.reasons())


BLIND = torch.ones(7, 7).bool().index_fill(0, torch.tensor([2]), False)
"""The third query sees nothing."""
UNKNOWN = {
    "a row hidden altogether": lambda s, m: torch.where(m, s, -math.inf),
    "a mask on its side": lambda s, m: torch.where(m.t(), s, -math.inf),
    "a row of infinities": lambda s, m: s + torch.where(m, 0.0, -math.inf),
}


@pytest.mark.parametrize("form", UNKNOWN)
def test_a_query_that_may_see_no_key_is_not_for_torchs_attention(form: str):
    mask = BLIND if form != "a mask on its side" else BLIND.t().contiguous()
    made = offer(attend(UNKNOWN[form]), *qkv(2, 3), parts=(Const(mask),))
    assert [c.stage.implementation for c in made.named("attention")] == TAKEN_APART
    assert [r for r in made.reasons() if r.startswith("a query may see no key")]
    for candidate in made.named("attention"):
        torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, equal_nan=True)


def test_a_score_hidden_by_the_least_number_leaves_a_blind_query_the_mean():
    made = offer(attend(FORMS["visible"][0]), *qkv(2, 3), parts=(Const(BLIND),))
    assert len(made.named("attention")) == 3
    for candidate in made.named("attention"):
        torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


def test_one_mask_may_hide_in_one_place_and_show_in_another():
    def both(m: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shown = attend(lambda s, m: torch.where(m, s, -math.inf))
        return shown(m, q, k, v) + attend(lambda s, m: torch.where(m, -math.inf, s))(m, q, k, v)

    mask = TRIANGLE.index_fill(1, torch.tensor([6]), False)
    made = offer(both, *qkv(2, 3), parts=(Const(mask),))
    binder, values = Binder(made.weights()), dict(zip(("args_0", "args_1", "args_2"), made.args, strict=True))
    for implementation in ("attention.sdpa", *TAKEN_APART):
        parts = [c for c in made.named("attention") if c.stage.implementation == implementation]
        calls = [binder.bind(planned(c), {}) for c in parts]
        with torch.no_grad():
            total = sum(call.function(*call.fill(values.__getitem__)[0]) for call in calls)
        assert len(calls) == 2
        torch.testing.assert_close(total, made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


def test_a_mask_is_cut_anew_for_every_length():
    def cut(m: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n = q.shape[2]
        return attend(lambda s, m: torch.where(m[:n, :n], s, -math.inf))(m, q, k, v)

    model, axes = Wrapped(cut, Const(TRIANGLE)).eval(), {2: torch.export.Dim.AUTO}
    traced = trace(model, tuple(t[:, :, :5] for t in qkv(2, 3)), dynamic_shapes=((axes, axes, axes),))
    cleaned = registry().parse("default").run(traced.algebra, Trace())
    found = Candidates()
    library_candidates(cleaned, found)
    kinds = [c for c in found.admitted if c.kind == "attention"]
    assert [c.stage.implementation for c in kinds] == TAKEN_APART
    (length,) = traced.algebra.symbols
    for candidate in kinds:
        binder = Binder({w.name: from_numpy(cleaned.constants[w.name], w.dtype) for w in cleaned.weights})
        for n in (7, 4, 6):
            values = dict(zip((t.name for t in traced.algebra.inputs), (t[:, :, :n] for t in qkv(2, 3)), strict=True))
            call = binder.bind(planned(candidate), {length.name: n})
            with torch.no_grad():
                result = call.function(*call.fill(values.__getitem__)[0])
                torch.testing.assert_close(result, model(*values.values()), rtol=2e-5, atol=2e-5, check_stride=False)


def test_masks_have_the_type_of_the_scores():
    scores, mask = FORMS["hidden"]
    made = offer(attend(scores), *(t.double() for t in qkv(2, 3)), parts=(Const(mask),))
    for candidate in made.named("attention"):
        torch.testing.assert_close(made.run(candidate), made.expected())
