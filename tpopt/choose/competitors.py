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

    def take(name: str, part: list[Candidate]) -> None:
        done.append(part)
        missing.difference_update(v for c in part for v in c.produces)
        group = waiting.pop(name)
        if len(part) < len(group):
            waiting[name] = [c for c in group if c not in part]

    while waiting:
        before = len(done)
        for name, group in list(waiting.items()):
            if len(_runnable(group, missing)) == len(group):
                take(name, group)
        if len(done) == before:
            parts = ((name, _runnable(group, missing)) for name, group in waiting.items())
            take(*next((found for found in parts if found[1]), next(iter(waiting.items()))))
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
        found = [c for c in group if all(v in made or v not in missing for v in c.needs)]
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
