"""Plans without one of the families that a budget admits: what the last race compares an approximate plan with."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tpopt._compile.approximate import Found, _Search

WHOLE = 0.25


class Search(_Search):
    """A search among plans given by name: the family that a plan uses, and whether the metric admits it."""

    def __init__(self, best: str | None, holds: set[str], deadline: float = 60.0) -> None:
        self._attempt = cast(Any, SimpleNamespace(deadline=time.perf_counter() + deadline, verification=None))
        self._holds, self.asked = holds, list[tuple[float, str]]()
        self._best = None if best is None else self.plan(best)

    @staticmethod
    def plan(name: str) -> Found:
        picked = [name] if name in ("codes", "factors") else ["codes", "factors"] if name == "both" else []
        return Found(
            cast(Any, SimpleNamespace(name=name, solution=SimpleNamespace(picked=picked))), cast(Any, None), None
        )

    def _families(self) -> Any:
        return {"codes": frozenset({"codes"}), "factors": frozenset({"factors"})}

    def _choice(self, limit: float, without: Any = frozenset()) -> Any:
        (left,) = {"codes", "factors"} - without
        self.asked.append((limit, left))
        return self.plan(left).choice

    def _admitted(self, choice: Any) -> float | None:
        if choice.name not in self._holds:
            return 1.0
        self._best = self.plan(choice.name)
        return None


@pytest.mark.parametrize(
    ("best", "holds", "others"),
    [
        ("both", {"codes", "factors"}, {"without codes": "factors", "without factors": "codes"}),
        ("both", {"factors"}, {"without codes": "factors"}),
        ("codes", {"factors"}, {"without codes": "factors"}),
        ("both", set(), {}),
    ],
    ids=["both hold", "one does not", "what it does not use is not left out", "none holds"],
)
def test_the_best_keeps_its_place_and_others_run_beside_it(best: str, holds: set[str], others: dict[str, str]):
    search = Search(best, holds)
    search._apart(WHOLE)
    assert search._best is not None
    assert cast(Any, search._best.choice).name == best
    assert {n: cast(Any, f.choice).name for n, f in search._best.others.items()} == others
    assert {limit for limit, _ in search.asked} == {WHOLE}


def test_where_all_families_together_fail_one_alone_may_hold():
    search = Search(None, {"codes"})
    search._apart(WHOLE)
    assert search._best is not None
    assert cast(Any, search._best.choice).name == "codes"
    assert search._best.others == {}


def test_nothing_is_tried_when_the_time_is_up():
    search = Search("both", {"codes", "factors"}, deadline=-1.0)
    search._apart(WHOLE)
    assert search.asked == []
    assert search._best is not None
