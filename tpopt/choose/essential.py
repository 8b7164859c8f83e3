"""Work that every cover has to do: candidates of which at least one is picked.

A tensor may be computed by a kernel of its own or inside a wide one. Where removing everyone that computes it, in
either way, leaves some output unreachable, every cover has one of them. Saying so is what makes the linear relaxation
of a cover tight: without it the relaxation splits a chain over overlapping candidates, each of which asks little of
the one before (MobileNet-V2: bound 1,549 of 3,198 microseconds without, 3,190 with).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tpopt.choose.candidate import Candidate, Value


def essential_groups(
    candidates: Sequence[Candidate],
    given: frozenset[Value],
    outputs: Sequence[Value],
    wide: Mapping[str, str] = MappingProxyType({}),
) -> list[tuple[int, ...]]:
    """Positions of candidates that compute one tensor which every cover computes, for each such tensor; none twice.

    A narrow value counts as the one it stands for (``wide``). Conversions compute nothing. One reachability test for
    each group: linear in the candidates' needs.
    """
    makers: dict[str, list[int]] = {}
    for k, candidate in enumerate(candidates):
        names = dict.fromkeys(wide.get(n, n) for n in candidate.computes()) if not candidate.converts else ()
        for name in names:
            makers.setdefault(name, []).append(k)
    search = _Search(candidates, given, outputs)
    groups = dict.fromkeys(map(tuple, makers.values()))
    return [group for group in groups if not search.reaches_outputs(without=frozenset(group))]


class _Search:
    """What can be computed with some of the candidates."""

    def __init__(self, candidates: Sequence[Candidate], given: frozenset[Value], outputs: Sequence[Value]) -> None:
        self._makes = [c.produces for c in candidates]
        self._missing = [len(set(c.needs)) for c in candidates]
        self._given, self._outputs = given, outputs
        self._users: dict[Value, list[int]] = {}
        for k, candidate in enumerate(candidates):
            for value in dict.fromkeys(candidate.needs):
                self._users.setdefault(value, []).append(k)

    def reaches_outputs(self, *, without: frozenset[int]) -> bool:
        """Whether the others produce every output."""
        missing = self._missing.copy()
        have: set[Value] = set()
        pending = deque(self._given)
        pending.extend(v for k, count in enumerate(missing) if not count and k not in without for v in self._makes[k])
        while pending:
            value = pending.popleft()
            if value in have:
                continue
            have.add(value)
            for k in self._users.get(value, ()):
                missing[k] -= 1
                if not missing[k] and k not in without:
                    pending.extend(self._makes[k])
        return have.issuperset(self._outputs)
