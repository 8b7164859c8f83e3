"""The order in which kernels are built: those of the fastest covers first."""

from __future__ import annotations

import torch
from torch import nn

from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.ahead import build_order
from tpopt.choose.candidate import Candidate
from tpopt.choose.gather import gather
from tpopt.frontend.trace import trace
from tpopt.ir import DType
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite import Numerics, Trace, registry

NET = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 8)).eval()


def order(price: float, dear: str, *, narrow: bool = False, seconds: float = 60.0) -> list[Candidate]:
    """The order when every kernel costs 10 µs, and those whose name begins with ``dear`` another price."""
    found = trace(NET, (torch.randn(16, 32),))
    form = registry().parse("default").run(found.algebra, Trace())
    storages = [Storage([form], DType.BF16)] if narrow else []
    candidates = gather(found.original, [form], storages=storages)
    made = build_order(
        found.original, [form], candidates, lambda c: price if c.name.startswith(dear) else 10.0, seconds
    )
    assert sorted(c.name for c in made) == sorted(c.name for c in candidates.admitted if is_generated(c))
    return made


def test_what_the_fastest_cover_has_comes_before_its_rivals():
    names = [c.name for c in order(1000.0, "layer_norm:")]
    rivals = [n for n in names if n.startswith("layer_norm:")]
    others = [n for n in names if not n.startswith("layer_norm:")]
    assert rivals
    assert min(map(names.index, others)) < min(map(names.index, rivals))


def test_without_time_the_dearest_come_first():
    made = order(1000.0, "layer_norm:", seconds=0.0)
    assert made[0].name.startswith("layer_norm:")


def test_approximate_covers_take_turns_with_exact_ones():
    made = order(10.0, "none", narrow=True)
    first = [c.numerics is Numerics.APPROXIMATE for c in made[: len(made) // 2]]
    assert {True, False} == set(first)
