"""The chooser: every candidate for every value, priced, and the cheapest cover as a plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from types import MappingProxyType
from typing import Final

from tpopt.backend.generated import candidates as generated
from tpopt.backend.generated.binding import build_all
from tpopt.backend.generated.groups import expanded
from tpopt.backend.generated.kernel import obstacle
from tpopt.backend.library import library_candidates
from tpopt.backend.library.torch_stage import bridge_candidates
from tpopt.backend.plan import Plan
from tpopt.choose.assemble import assemble
from tpopt.choose.candidate import CHANNELS_LAST, Candidate, Candidates, Price, Refused, Value
from tpopt.choose.careful import affordable, excess_terms, growth
from tpopt.choose.integer import byte_weights, coded_form, encoded_form, integer_twins, weight_twins
from tpopt.choose.layouts import layout_candidates
from tpopt.choose.narrow import approximate, conversions, rounded, twins
from tpopt.choose.originals import original_candidates
from tpopt.choose.pricing import Pricer, planned
from tpopt.choose.solve import Holding, Solution, Spending, solve
from tpopt.errors import InvalidProgram
from tpopt.ir import Kernel, Opaque, Program, Stage, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.options import Kernels
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage, stored_narrow
from tpopt.rewrite.numerics import Numerics

_FAILURE: Final = re.compile(r"\w+Error: ")
"""How the reason reads that an operator was turned down for when it ran and raised."""


@dataclass(frozen=True)
class Choice:
    """A plan and the reasons for it."""

    plan: Plan
    solution: Solution
    found: Candidates
    prices: dict[str, Price]
    limited: bool = False
    """Whether accuracy was a budget: an earlier cover had lost too much of it."""


def gather(
    original: Program,
    forms: Sequence[Program],
    exclude: tuple[str, ...] = (),
    device: str = "cpu",
    kernels: Kernels = "all",
    *,
    storages: Sequence[Storage] = (),
    certain: bool = False,
    further: Callable[[Candidates], tuple[Sequence[Program], Sequence[Program]]] | None = None,
) -> Candidates:
    """Every candidate: the original operators, what the libraries offer for the algebra, what is generated, layouts.

    ``forms`` are programs over the same tensors (:func:`tpopt.rewrite.forms`); what several of them offer counts once.
    For each of ``storages`` everything is offered on narrow values too, with the conversions that join the two.
    ``certain`` leaves generated kernels out that are certain to be slower than others. ``further`` makes forms of what
    was found so far that are not equal to the others, and the parts of them that are new; kernels of those are
    approximate.
    """
    found = Candidates()
    original_candidates(original, found, device)
    _offers(forms, found, partial(library_candidates, device=device))
    bridge_candidates(forms, found)  # before what is generated, so that every value has a maker if nothing can be built
    other, parts = further(found) if further is not None else ((), ())
    exact = {c.name for c in found.admitted}
    if other:
        others = Candidates()
        _offers((forms[0], *other), others, partial(library_candidates, device=device))
        bridge_candidates((forms[0], *other), others)
        known = {(c.key, c.needs, c.produces) for c in found.admitted}
        fresh = [c for c in others.admitted if (c.key, c.needs, c.produces) not in known]
        found.admitted += _apart(fresh, exact)
        found.weights |= {w: f.constants[w.name] for f in other for w in f.weights if w not in forms[0].weights}
    floats, integers = _by_kind(storages)
    for storage in floats:
        twins(found, storage)
    for codes in integers:
        integer_twins(found, codes, floats)
        weight_twins(found, codes, floats)
    if kernels != "library" and device == "cpu":
        offered = (v for c in found.admitted for v in (*c.needs, *c.produces))
        images = frozenset(v.name for v in offered if v.layout == CHANNELS_LAST)
        offer = partial(generated.candidates, channels_last=images, certain=certain, known=set())
        _generated(forms, found, offer)
        for part in parts:
            made = Candidates()
            _generated((part,), made, offer)
            found.admitted += _apart(made.admitted, {c.name for c in found.admitted})
        for storage in floats:
            _generated_narrow(stored_narrow(forms[0], storage), found, offer, storage)
        for codes in integers:
            _generated_codes(forms[0], found, offer, codes, floats)
    conversions(found, storages, original, generate=kernels != "library" and device == "cpu")
    found.admitted = [_labelled(c) for c in found.admitted]
    _exclude(found, (*forms, original), exclude, {n: t.name for s in storages for n, t in s.origin.items()})
    tensors = {t.name: t for program in (*forms, original) for t in _all_tensors(program)}
    tensors |= {s.narrow(wide).name: s.narrow(wide) for s in storages for wide in s.origin.values()}
    layout_candidates(tensors, found)
    return found


def _generated(forms: Sequence[Program], found: Candidates, offer: Callable[[Program, Candidates], None]) -> None:
    """What is generated, or why nothing is."""
    reason = obstacle()
    if reason is None:
        _offers(forms, found, offer)
    else:
        for name in (o.name for s in forms[0].stages for o in s.outs):
            found.refuse(f"{name}:{generated.KIND}", generated.KIND, (name,), reason)


def _apart(candidates: Sequence[Candidate], taken: set[str]) -> list[Candidate]:
    """The same under names that nobody has."""
    found = []
    for candidate in candidates:
        number, name = 1, candidate.name
        while name in taken:
            number, name = number + 1, f"{candidate.name}~{number + 1}"
        taken.add(name)
        found.append(replace(candidate, name=name))
    return found


def _by_kind(storages: Sequence[Storage]) -> tuple[list[Storage], list[Quantized]]:
    """Those that store floats, and those that store codes."""
    codes = [s for s in storages if isinstance(s, Quantized)]
    return [s for s in storages if not isinstance(s, Quantized)], codes


def _generated_codes(
    program: Program,
    found: Candidates,
    offer: Callable[[Program, Candidates], None],
    codes: Quantized,
    floats: Sequence[Storage],
) -> None:
    """What is generated that makes the codes that integer kernels read, from values as they are and narrow ones."""
    bases: list[tuple[Program, Storage | None]] = [(program, None), *((stored_narrow(program, s), s) for s in floats)]
    made = [encoded_form(base, codes, storage) for base, storage in bases]
    bytewise = byte_weights(program, codes)
    for storage in floats:
        storage.learn(bytewise)
    for form in (*made, coded_form(program, codes), bytewise, *(stored_narrow(bytewise, s) for s in floats)):
        _generated_narrow(form, found, offer, codes)


def _generated_narrow(
    narrow: Program, found: Candidates, offer: Callable[[Program, Candidates], None], storage: Storage
) -> None:
    """What is generated for a narrow form of what the pipeline made, under its label."""
    offered = Candidates()
    known = {c.name for c in found.admitted}
    _generated((narrow,), offered, offer)
    for candidate in offered.admitted:
        if rounded(candidate, storage) or any(t.name in storage.origin for t in stage_reads(candidate.stage)):
            name = candidate.name if candidate.name not in known else f"{candidate.name}.{storage.dtype}"
            found.add(approximate(replace(candidate, name=name), storage))
    found.refused += offered.refused


def _offers(forms: Sequence[Program], found: Candidates, offer: Callable[[Program, Candidates], None]) -> None:
    """What a family offers for each form, nothing twice, and no way to compute what is a constant in the first."""
    constants = frozenset(w.name for w in forms[0].weights)
    known: dict[str, list[Candidate]] = {}
    for form in forms:
        offered = Candidates()
        offer(form, offered)
        for candidate in offered.admitted:
            same_name = known.setdefault(candidate.name, [])
            if any(_same(candidate, other) for other in same_name) or any(
                v.name in constants for v in candidate.produces
            ):
                continue
            same_name.append(candidate)
            number = len(same_name)
            found.add(candidate if number == 1 else replace(candidate, name=f"{candidate.name}~{number}"))
        seen = dict.fromkeys(found.refused)
        found.refused += [r for r in offered.refused if r not in seen and not constants.issuperset(r.covers)]


def _all_tensors(program: Program) -> Iterator[Tensor]:
    """The tensors of a program, and those between the stages that its kernels stand for."""
    yield from program.tensors.values()
    for stage in expanded(program):
        yield from stage.outs


def _labelled(candidate: Candidate) -> Candidate:
    """With the label of what it computes, whoever offers it: transformed products lose accuracy in any kernel."""
    stage = candidate.stage
    if not isinstance(stage, Kernel) or all(growth(s) == 1.0 for s in stage.defines):
        return candidate
    return replace(candidate, numerics=max(candidate.numerics, Numerics.CONDITIONING))


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates run the same kernel on the same values."""
    return one.key == other.key and (one.needs, one.produces) == (other.needs, other.produces)


def _exclude(
    found: Candidates, programs: Sequence[Program], patterns: tuple[str, ...], wide: Mapping[str, str]
) -> None:
    """Keeps the operators of the named modules as they are: every other candidate in place of one is refused.

    ``wide`` has the name of the value that each narrow one stands for.
    """
    if not patterns:
        return
    origins = {name: origin for program in programs for name, origin in program.origins.items()}
    makers = {o.name: stage for program in programs for stage in program.stages for o in stage.outs}
    kept = []
    for candidate in found.admitted:
        replaced = () if is_original(candidate) else _between(candidate, makers, wide)
        modules = [origins[name].module for name in replaced if name in origins]
        if any(fnmatch(m, p) for m in modules for p in patterns):
            found.refuse(candidate.name, candidate.kind, candidate.covers, "its module is excluded by option")
        else:
            kept.append(candidate)
    found.admitted = kept


def _between(candidate: Candidate, makers: Mapping[str, Stage], wide: Mapping[str, str]) -> list[str]:
    """Tensors that operators compute on the way from what a candidate needs to what it produces."""
    seen = {wide.get(v.name, v.name) for v in candidate.needs}
    found, pending = [], [wide.get(v.name, v.name) for v in candidate.produces]
    while pending:
        name = pending.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        found.append(name)
        pending.extend(t.name for t in stage_reads(makers[name]))
    return found


def choose(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    pricer: Pricer,
    kernels: Kernels = "all",
) -> Choice:
    """Prices and solves. The plan has the signature of ``original`` and the weights of all programs that it uses.

    Nothing approximate is picked: that is for :func:`solved` with a budget. With ``kernels="generated"`` nothing else
    runs where a generated kernel could be built. Raises :class:`InvalidProgram` where an operator of the model itself
    fails on the example inputs.
    """
    prices = pricer.run(found)
    failed = next((r for r in found.refused if r.name.endswith(":original") and _FAILURE.match(r.reason)), None)
    if failed is not None and _is_fed_by_inputs(failed, original):
        raise InvalidProgram(_own_failure(failed))
    if kernels == "generated":
        _prepare(found.admitted, found, pricer)
        _only_generated(found)
    try:
        choice = solved(original, forms, found, prices)
        while not _prepare(choice.solution.picked, found, pricer):
            choice = solved(original, forms, found, prices)
    except InvalidProgram as error:
        if failed is None:
            raise
        raise InvalidProgram(_own_failure(failed)) from error
    return choice


def _prepare(picked: Sequence[Candidate], found: Candidates, pricer: Pricer) -> bool:
    """Whether all generated kernels among these can be built; those that cannot are refused.

    What was measured was built for that.
    """
    if pricer.profiler is not None:
        return True
    made = list(filter(generated.is_generated, picked))
    build_all(planned(c) for c in made)
    broken = {c: reason for c in made if (reason := pricer.unbuildable(c)) is not None}
    for candidate, reason in broken.items():
        found.refuse(candidate.name, candidate.kind, candidate.covers, reason)
    found.admitted = [c for c in found.admitted if c not in broken]
    return not broken


def _only_generated(found: Candidates) -> None:
    """Leaves generated kernels alone in the race for what they compute; everything else runs as it did."""
    made = {v.name for c in found.admitted if c.kind == generated.KIND for v in c.produces}
    others = [c for c in found.admitted if c.kind != generated.KIND and any(v.name in made for v in c.produces)]
    for candidate in others:
        found.refuse(candidate.name, candidate.kind, candidate.covers, "only generated kernels were asked for")
    found.admitted = [c for c in found.admitted if c not in others]


def _is_fed_by_inputs(failed: Refused, original: Program) -> bool:
    """Whether an operator reads inputs and weights alone, so that nothing but these made it fail."""
    given = {*original.inputs, *original.weights}
    stage = next((s for s in original.stages if any(o.name in failed.covers for o in s.outs)), None)
    return stage is not None and given.issuperset(stage_reads(stage))


def _own_failure(failed: Refused) -> str:
    name = failed.name.removesuffix(":original")
    return f"the model's own operator {name} fails on the example inputs: {failed.reason}"


def solved(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    prices: dict[str, Price],
    spending: Sequence[Spending] = (),
    *,
    approximate: bool = False,
    penalties: Mapping[str, float] = MappingProxyType({}),
    holding: Holding | None = None,
) -> Choice:
    """The cheapest cover within the budgets; ``approximate`` lets candidates in that only a budget for accuracy admits.

    ``penalties`` are added to prices, by name of the candidate; ``holding`` counts bytes of constants.

    Raises :class:`InvalidProgram` where there is none.
    """
    admitted = [c for c in found.admitted if approximate or c.numerics is not Numerics.APPROXIMATE]
    weights = tuple(dict.fromkeys((*_weights(original, *forms), *found.weights)))
    whole = replace(original, weights=weights)
    given = frozenset(Value(t.name) for t in (*whole.inputs, *whole.weights))
    effects = [o for s in whole.stages if isinstance(s, Opaque) and s.effectful for o in s.outs]
    wanted = dict.fromkeys(Value(t.name) for t in (*whole.outputs, *effects))
    solution = solve(
        admitted, prices, given, list(wanted), spending, wide=found.wide, penalties=penalties, holding=holding
    )
    plan = assemble(whole, solution.picked, prices, given)
    return Choice(plan, solution, found, prices, limited=bool(spending))


def choose_again(
    original: Program,
    forms: Sequence[Program],
    before: Choice,
    sizes: Mapping[str, int],
    *,
    error: float,
    tolerance: float,
) -> Choice | None:
    """The cheapest cover whose long sums lose less than those that made ``error``; ``None`` where none are long."""
    limit = affordable(before.solution.picked, sizes, error, tolerance)
    if limit is None:
        return None
    spent = {c.name: n for c in before.found.admitted if (n := excess_terms(c, sizes))}
    return solved(original, forms, before.found, before.prices, (Spending(spent, limit),))


def only_originals(original: Program, found: Candidates, prices: dict[str, Price]) -> Choice | None:
    """The plan that runs every original operator as it is; ``None`` when one of them failed on its own."""
    given = frozenset(Value(t.name) for t in (*original.inputs, *original.weights))
    plain = [c for c in found.admitted if c.name.endswith(":original")]
    if len(plain) < len(original.stages):
        return None
    solution = Solution(tuple(plain), sum(prices[c.key].us for c in plain), optimal=True)
    return Choice(assemble(original, plain, prices, given), solution, found, prices)


def _weights(*programs: Program) -> tuple[Tensor, ...]:
    return tuple(dict.fromkeys(w for program in programs for w in program.weights))


def is_original(candidate: Candidate) -> bool:
    """Whether a candidate runs a traced operator as it was."""
    return candidate.kind == "original" or candidate.name.endswith(":original")
