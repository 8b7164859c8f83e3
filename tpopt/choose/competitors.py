"""Which candidates are measured together, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from tpopt.choose.candidate import Candidate, Value


def competitors(candidates: Sequence[Candidate], wide: Mapping[str, str]) -> list[list[Candidate]]:
    """Competitors for the same first value, each after somebody that makes what it needs.

    Forms of a program may need each other's values in a circle: a group of which only a part can run is split there.
    """
    waiting: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        waiting.setdefault(_home(candidate, wide), []).append(candidate)
    missing = {v for c in candidates for v in c.produces} - _given(candidates, wide)
    done: list[list[Candidate]] = []
    while waiting:
        parts = {}
        for name, group in waiting.items():
            parts[name] = _runnable(group, missing)
            if len(parts[name]) == len(group):
                done.append(group)
                missing.difference_update(v for c in group for v in c.produces)
        whole = [name for name, part in parts.items() if len(part) == len(waiting[name])]
        for name in whole:
            del waiting[name]
        if whole or not waiting:
            continue
        name = next((n for n, part in parts.items() if part), next(iter(waiting)))
        part = parts[name] or waiting[name]
        done.append(part)
        missing.difference_update(v for c in part for v in c.produces)
        waiting[name] = [c for c in waiting[name] if c not in part]
        if not waiting[name]:
            del waiting[name]
    return done


def _given(candidates: Sequence[Candidate], wide: Mapping[str, str]) -> set[Value]:
    """Values that candidates only convert, to another layout or type and back."""
    made: set[str] = set()
    for candidate in candidates:
        same = {n for v in candidate.needs for n in (v.name, wide.get(v.name))}
        made.update(v.name for v in candidate.produces if v.name not in same)
    return {v for c in candidates for v in c.needs if v.name not in made and not v.layout}


def _runnable(group: Sequence[Candidate], missing: Set[Value]) -> list[Candidate]:
    """Members whose needs are there, or made by other such members (the conversions of a value stand in its group)."""
    made: set[Value] = set()
    while True:
        found = [c for c in group if not (missing - made) & set(c.needs)]
        fresh = {v for c in found for v in c.produces} - made
        if not fresh:
            return found
        made |= fresh


def _home(candidate: Candidate, wide: Mapping[str, str]) -> str:
    """What a candidate competes for: its first value.

    One that widens a narrow value stands alone: others have computed the wide one before, and rounded it.
    """
    made = {v.name for v in candidate.produces}
    if not made or any(wide.get(v.name) in made for v in candidate.needs):
        return candidate.name
    return candidate.produces[0].name
