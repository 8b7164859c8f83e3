"""The chooser: every candidate for every value, priced, and the cheapest cover as a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from tpopt.backend.library import library_candidates
from tpopt.backend.plan import Plan
from tpopt.choose.assemble import assemble
from tpopt.choose.candidate import Candidate, Candidates, Price, Value
from tpopt.choose.careful import longest_allowed, reduction_length
from tpopt.choose.layouts import layout_candidates
from tpopt.choose.originals import original_candidates
from tpopt.choose.pricing import Pricer
from tpopt.choose.solve import Solution, solve
from tpopt.ir import Opaque, Program, Stage, Tensor
from tpopt.ir.walk import stage_reads


@dataclass(frozen=True)
class Choice:
    """A plan and the reasons for it."""

    plan: Plan
    solution: Solution
    found: Candidates
    prices: dict[str, Price]


def gather(original: Program, cleaned: Program, exclude: tuple[str, ...] = (), device: str = "cpu") -> Candidates:
    """Every candidate: the original operators, then what the libraries offer for the cleaned algebra, then layouts."""
    found = Candidates()
    original_candidates(original, found)
    library_candidates(cleaned, found, device)
    _exclude(found, cleaned, original, exclude)
    layout_candidates({**cleaned.tensors, **original.tensors}, found)
    return found


def _exclude(found: Candidates, cleaned: Program, original: Program, patterns: tuple[str, ...]) -> None:
    """Keeps the operators of the named modules as they are: every other candidate in place of one is refused."""
    if not patterns:
        return
    origins = {**cleaned.origins, **original.origins}
    makers = {o.name: stage for program in (cleaned, original) for stage in program.stages for o in stage.outs}
    kept = []
    for candidate in found.admitted:
        replaced = () if is_original(candidate) else _between(candidate, makers)
        modules = [origins[name].module for name in replaced if name in origins]
        if any(fnmatch(m, p) for m in modules for p in patterns):
            found.refuse(candidate.name, candidate.kind, candidate.covers, "its module is excluded by option")
        else:
            kept.append(candidate)
    found.admitted = kept


def _between(candidate: Candidate, makers: Mapping[str, Stage]) -> list[str]:
    """Tensors that operators compute on the way from what a candidate needs to what it produces."""
    seen = {v.name for v in candidate.needs}
    found, pending = [], [v.name for v in candidate.produces]
    while pending:
        name = pending.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        found.append(name)
        pending.extend(t.name for t in stage_reads(makers[name]))
    return found


def choose(original: Program, cleaned: Program, found: Candidates, pricer: Pricer) -> Choice:
    """Prices and solves. The plan has the signature of ``original`` and the weights of both programs that it uses."""
    return _solved(original, cleaned, found, pricer.run(found))


def _solved(original: Program, cleaned: Program, found: Candidates, prices: dict[str, Price]) -> Choice:
    whole = replace(original, weights=_weights(original, cleaned))
    given = frozenset(Value(t.name) for t in (*whole.inputs, *whole.weights))
    effects = [o for s in whole.stages if isinstance(s, Opaque) and s.effectful for o in s.outs]
    wanted = dict.fromkeys(Value(t.name) for t in (*whole.outputs, *effects))
    solution = solve(found.admitted, prices, given, list(wanted))
    return Choice(assemble(whole, solution.picked, prices, given), solution, found, prices)


def choose_again(
    original: Program, cleaned: Program, before: Choice, sizes: Mapping[str, int], excess: float
) -> Choice | None:
    """The choice without the kernels whose long sums made the error ``excess`` times too large.

    ``None`` when no kernel is left to bar.
    """
    limit = longest_allowed(before.solution.picked, sizes, excess)
    if limit is None:
        return None
    found = Candidates(refused=list(before.found.refused))
    for candidate in before.found.admitted:
        length = reduction_length(candidate, sizes)
        if length > limit or (length and not limit):
            reason = f"verification: sums of {length} terms in one accumulator lose too much accuracy in this model"
            found.refuse(candidate.name, candidate.kind, candidate.covers, reason)
        else:
            found.add(candidate)
    return _solved(original, cleaned, found, before.prices)


def only_originals(original: Program, found: Candidates, prices: dict[str, Price]) -> Choice | None:
    """The plan that runs every original operator as it is; ``None`` when one of them failed on its own."""
    given = frozenset(Value(t.name) for t in (*original.inputs, *original.weights))
    plain = [c for c in found.admitted if c.name.endswith(":original")]
    if len(plain) < len(original.stages):
        return None
    solution = Solution(tuple(plain), sum(prices[c.key].us for c in plain), optimal=True)
    return Choice(assemble(original, plain, prices, given), solution, found, prices)


def _weights(original: Program, cleaned: Program) -> tuple[Tensor, ...]:
    return tuple(dict.fromkeys((*original.weights, *cleaned.weights)))


def is_original(candidate: Candidate) -> bool:
    """Whether a candidate runs a traced operator as it was."""
    return candidate.kind == "original" or candidate.name.endswith(":original")
