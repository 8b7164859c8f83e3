"""Tensors that every cover has to compute: removing all their kernels would leave some output unreachable."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tpopt.choose.candidate import Candidate, Value


def essential_names(
    candidates: Sequence[Candidate],
    given: frozenset[Value],
    outputs: Sequence[Value],
    wide: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Names in the order of the candidates; a narrow value counts as the one it stands for (``wide``).

    One reachability test for each name: linear in the candidates' needs.

    Stating that these tensors are computed cuts the program into the segments between them, which its linear
    relaxation could not see.
    """
    users: dict[Value, list[int]] = {}
    for k, candidate in enumerate(candidates):
        for value in dict.fromkeys(candidate.needs):
            users.setdefault(value, []).append(k)
    names = dict.fromkeys(wide.get(v.name, v.name) for c in candidates if not c.converts for v in c.produces)
    given_names = {v.name for v in given}
    return tuple(
        name
        for name in names
        if name not in given_names and not _reachable(candidates, users, given, outputs, name, wide)
    )


def _reachable(
    candidates: Sequence[Candidate],
    users: dict[Value, list[int]],
    given: frozenset[Value],
    outputs: Sequence[Value],
    without: str,
    wide: Mapping[str, str],
) -> bool:
    missing = [len(dict.fromkeys(c.needs)) for c in candidates]
    have: set[Value] = set()
    pending = deque(given)
    for k, count in enumerate(missing):
        if not count:
            pending.extend(v for v in candidates[k].produces if wide.get(v.name, v.name) != without)
    while pending:
        value = pending.popleft()
        if value in have:
            continue
        have.add(value)
        for k in users.get(value, ()):
            missing[k] -= 1
            if not missing[k]:
                pending.extend(v for v in candidates[k].produces if wide.get(v.name, v.name) != without)
    return all(v in have for v in outputs)
