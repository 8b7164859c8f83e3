"""Every candidate for every value: from originals, libraries and the generator, on values as they are and narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial

from tpopt.backend.cuda import candidates as cuda
from tpopt.backend.generated import candidates as generated
from tpopt.backend.generated.groups import expanded
from tpopt.backend.generated.kernel import obstacle
from tpopt.backend.library import library_candidates
from tpopt.backend.library.torch_stage import bridge_candidates
from tpopt.choose.candidate import CHANNELS_LAST, Candidate, Candidates
from tpopt.choose.careful import growth
from tpopt.choose.integer import integer_twins, weight_twins
from tpopt.choose.layouts import layout_candidates
from tpopt.choose.narrow import approximate, conversions, rounded, twins
from tpopt.choose.originals import is_original, original_candidates
from tpopt.ir import Kernel, Program, Stage, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.options import Kernels
from tpopt.passes.precision.coded import coded_forms
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage, stored_narrow
from tpopt.rewrite.numerics import Numerics


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
    if other:
        _library_apart(forms[0], other, found, device)
    floats, integers = _by_kind(storages)
    for storage in floats:
        twins(found, storage)
    for codes in integers:
        integer_twins(found, codes, floats)
        weight_twins(found, codes, floats)
    if kernels != "library" and device == "cuda":
        _generated(forms, found, partial(cuda.candidates, device=cuda.current_device()), cuda.obstacle())
    elif kernels != "library":
        offered = (v for c in found.admitted for v in (*c.needs, *c.produces))
        images = frozenset(v.name for v in offered if v.layout == CHANNELS_LAST)
        offer = partial(generated.candidates, channels_last=images, certain=certain, known=set())
        _generated(forms, found, offer, obstacle())
        for part in parts:
            made = Candidates()
            _generated((part,), made, offer, obstacle())
            found.admitted += _apart(made.admitted, {c.name for c in found.admitted})
        narrow = {storage: stored_narrow(forms[0], storage) for storage in floats}
        for storage, form in narrow.items():
            _generated_narrow(form, found, offer, storage)
        for codes in integers:
            for form in coded_forms(forms[0], codes, narrow):
                _generated_narrow(form, found, offer, codes)
    generate = kernels != "library" and device == "cpu"
    conversions(found, storages, original, generate=generate)
    found.admitted = [_labelled(c) for c in found.admitted]
    _exclude(found, (*forms, original), exclude, {n: t.name for s in storages for n, t in s.origin.items()})
    tensors = {t.name: t for program in (*forms, original) for t in _all_tensors(program)}
    tensors |= {s.narrow(wide).name: s.narrow(wide) for s in storages for wide in s.origin.values()}
    layout_candidates(tensors, found, generate=generate)
    return found


def _generated(
    forms: Sequence[Program],
    found: Candidates,
    offer: Callable[[Program, Candidates], None],
    reason: str | None,
) -> None:
    """What is generated, or why nothing is."""
    if reason is None:
        _offers(forms, found, offer)
    else:
        for name in (o.name for s in forms[0].stages for o in s.outs):
            found.refuse(f"{name}:{generated.KIND}", generated.KIND, (name,), reason)


def _library_apart(first: Program, other: Sequence[Program], found: Candidates, device: str) -> None:
    """What the libraries offer for forms that are not equal to the first, and the weights of those."""
    others = Candidates()
    _offers((first, *other), others, partial(library_candidates, device=device))
    bridge_candidates((first, *other), others)
    known = {(c.key, c.needs, c.produces) for c in found.admitted}
    fresh = [c for c in others.admitted if (c.key, c.needs, c.produces) not in known]
    found.admitted += _apart(fresh, {c.name for c in found.admitted})
    found.weights |= {w: f.constants[w.name] for f in other for w in f.weights if w not in first.weights}


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


def _generated_narrow(
    narrow: Program, found: Candidates, offer: Callable[[Program, Candidates], None], storage: Storage
) -> None:
    """What is generated for a narrow form of what the pipeline made, under its label."""
    offered = Candidates()
    known = {c.name for c in found.admitted}
    _generated((narrow,), offered, offer, obstacle())
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
