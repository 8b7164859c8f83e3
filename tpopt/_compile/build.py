"""The stages of compilation in order: trace, clean up, choose, bind, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from tpopt._compile.again import MAX_CHOICES, chosen_again
from tpopt._compile.approximate import approximated, errors_of, label_approximations
from tpopt._compile.attempt import Attempt, Built
from tpopt._compile.check import verify_plan
from tpopt._compile.factorize import factors_of, fragment
from tpopt._compile.libraries import libraries_alone
from tpopt._compile.next_best import next_best
from tpopt._compile.samples import samples_of
from tpopt._compile.shapes import dynamic_from
from tpopt._compile.strides import without_transposed
from tpopt.backend.binding import Binder
from tpopt.backend.build.pool import build_pool
from tpopt.backend.machine import machine_fingerprint, measured_balance, synchronizer
from tpopt.backend.profile import Profiler
from tpopt.choose.candidate import Candidates
from tpopt.choose.choose import choose, only_originals
from tpopt.choose.cover import Choice
from tpopt.choose.gather import gather
from tpopt.choose.modelled import ModelPrices
from tpopt.choose.models import cost_model
from tpopt.choose.pricing import Pricer
from tpopt.cost_models.roofline import Balance
from tpopt.errors import TpoptError, UnsupportedModel, VerificationFailed
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import DType, Index, Program, Symbol, Tensor
from tpopt.ir.aten import from_numpy, torch_dtype
from tpopt.ir.index import walk_atoms
from tpopt.ir.materialize import is_formula, materialize
from tpopt.ir.program import Array
from tpopt.log import record
from tpopt.passes.precision.quantized import Quantized
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite import Numerics, forms, registry
from tpopt.runtime.compiled import PlanCallable, Signature, Specialization, State, strides_of
from tpopt.runtime.guards import InputGuard
from tpopt.store.records import Records

Respecialize: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Specialization | None]
"""Makes a plan for a call of other shapes; ``None`` where the original has to run it."""
MAX_SPECIALIZATIONS = 8
MOST_ORDERS = 4
"""Times that a plan is chosen again because its kernels read what lies out of order."""
CHOOSING_SHARE = 0.75
"""Part of the time that is left when candidates are known which building and measuring them may take."""


def build(attempt: Attempt) -> Built:
    """Trace, clean up, choose, bind, verify. Raises :class:`UnsupportedModel` or :class:`VerificationFailed`."""
    special, state = specialize(attempt, {})
    attempt.built = _built(attempt, special, state)
    if attempt.options.verify:
        attempt.progress("verify")
        special = _verified(attempt, special, state)
        attempt.built.verification = attempt.verification
    exact = attempt.built
    if attempt.storages:
        found = approximated(attempt, special, state)
        if found is not None:
            attempt.choice = found.choice
            attempt.built = _built(attempt, found.special, state)
            attempt.built.verification = attempt.verification
            attempt.built.rivals["exact"] = exact
            for name, other in found.others.items():
                rival = attempt.built.rivals[name] = _built(attempt, other.special, state, other.choice)
                rival.verification = other.verification
    if attempt.plain is not None and attempt.options.gate:
        attempt.built.rivals["plain"] = _built(attempt, beside(special, attempt.plain), state, attempt.plain)
    if attempt.options.gate and attempt.options.choice == "measured" and not attempt.storages:
        for name, choice in _next_in_line(attempt, attempt.built, state):
            _add_rival(attempt, attempt.built, state, name, choice)
    return attempt.built


def _next_in_line(attempt: Attempt, built: Built, state: State) -> Iterator[tuple[str, Choice]]:
    """Plans by name that may be faster end to end than the one whose kernels cost least one by one."""
    choice, special = built.choice, built.specialization
    for _ in range(MOST_ORDERS):  # what comes in place of a product may leave it transposed too
        ordered = without_transposed(attempt, choice, special, state)
        if ordered is None:
            break
        choice, special = ordered, beside(special, ordered)
    yield "in order", choice
    libraries = libraries_alone(attempt, built.choice)
    if libraries is not None:
        yield "libraries", libraries
    for number, other in enumerate(next_best(attempt, built.choice), 1):
        yield f"next {number}", other


def _add_rival(attempt: Attempt, built: Built, state: State, name: str, choice: Choice) -> None:
    """Another plan for the last race, if it is one that nobody runs yet, and stands verification."""
    if any(_same_kernels(choice, other.choice) for other in (built, *built.rivals.values())):
        return
    kept, special = (attempt.choice, attempt.verification), beside(built.specialization, choice)
    attempt.choice = choice
    try:
        if attempt.options.verify:
            verify_plan(attempt, special, state)
        rival = built.rivals[name] = _built(attempt, special, state)
        rival.verification = attempt.verification
    except VerificationFailed as error:
        record("verify", f"turned down the plan {name!r}", reason=str(error))
    finally:
        attempt.choice, attempt.verification = kept


def _same_kernels(one: Choice, other: Choice) -> bool:
    return set(one.solution.picked) == set(other.solution.picked)


def beside(special: Specialization, choice: Choice) -> Specialization:
    """Another plan in the place of one."""
    return Specialization(choice.plan, special.binder, special.signature, special.states, special.guard)


def _verified(attempt: Attempt, special: Specialization, state: State) -> Specialization:
    """Verifies; a plan that is turned down is chosen again."""
    for left in reversed(range(MAX_CHOICES + 1)):
        try:
            verify_plan(attempt, special, state)
            break
        except VerificationFailed:
            again = chosen_again(attempt, left)
            if again is None:
                raise
        attempt.choice = again
        special = beside(special, again)
        attempt.built = _built(attempt, special, state)
    return special


def _built(attempt: Attempt, special: Specialization, state: State, choice: Choice | None = None) -> Built:
    chosen = choice or attempt.choice
    assert chosen is not None
    return Built(callable_of(attempt, special, state), special.plan, special, state, chosen)


def callable_of(
    attempt: Attempt, special: Specialization, state: State, respecialize: Respecialize | None = None
) -> PlanCallable:
    """A plan as what takes the model's place; other shapes are compiled for, unless ``respecialize`` does otherwise."""
    assert attempt.traced is not None
    again = respecialize or _Respecialize(attempt, state)
    model = attempt.model
    weights = {n: t for n, t in attempt.traced.weights.items() if n not in state.tensors}
    return PlanCallable(special, weights, state, lambda: model.training, again, model)


def specialize(attempt: Attempt, states: Mapping[str, torch.Tensor]) -> tuple[Specialization, State]:
    """A plan for the attempt's shapes; ``states`` are buffer values that earlier plans of the model already own."""
    attempt.progress("trace")
    if attempt.options.kernels != "library" and attempt.options.choice == "measured":
        build_pool().warm()
    traced = trace(attempt.model, attempt.args, attempt.kwargs, attempt.dynamic_shapes)
    attempt.traced = traced
    device = device_of(traced, attempt.args)
    attempt.progress("clean up")
    pipeline = registry().parse(attempt.options.pipeline).with_callbacks(attempt.timing)
    attempt.forms = forms(pipeline, traced.algebra, attempt.history)
    attempt.cleaned = attempt.forms[0]
    guard = InputGuard(traced.original.inputs[: len(traced.original.inputs) - len(traced.states)], device, traced.guard)
    tensors = _tensor_inputs(traced, attempt.args, attempt.kwargs)
    sizes = guard.sizes(tensors)
    attempt.sizes = {**{s.name: max(s.low, 1) for s in traced.algebra.symbols}, **(sizes or {})}
    if sizes is None:
        raise UnsupportedModel("the example inputs do not have the shapes that were exported")
    if any(isinstance(o, Index) and not _told(o, sizes) for o in traced.outputs):
        raise UnsupportedModel("a result is an integer that depends on data, not on the shapes of inputs")
    binder = Binder(_weights(traced, attempt.forms, device))
    state = State(
        {n: states[n] if n in states else traced.weights[n].detach().clone() for n in traced.states},
        {n: traced.algebra.origins[n].nodes[0] for n in traced.states},
    )
    attempt.progress("choose")
    inputs = dict(zip((t.name for t in guard.inputs), tensors, strict=True))
    attempt.samples = samples_of(attempt, inputs, state)
    attempt.choice = _choose(attempt, traced, binder, inputs, state, sizes)
    signature = Signature(traced.in_spec, traced.out_spec, traced.inputs, traced.fixed, traced.outputs)
    special = Specialization(attempt.choice.plan, binder, signature, traced.states, guard)
    special.bind(sizes, strides_of(tensors))  # what cannot be bound is found out now, not by the first call
    return special, state


def _keep_non_finite(found: Candidates) -> None:
    """Refuses what mixes a value that is not finite into others beside it, as transformed products do."""
    loose = [c for c in found.admitted if c.numerics >= Numerics.CONDITIONING]
    for candidate in loose:
        found.refuse(candidate.name, candidate.kind, candidate.covers, "strict: infinities and NaN stay where they are")
    found.admitted = [c for c in found.admitted if c not in loose]


def _told(value: Index, sizes: Mapping[str, int]) -> bool:
    return all(a.name in sizes for a in walk_atoms(value) if isinstance(a, Symbol))


def _choose(
    attempt: Attempt,
    traced: Traced,
    binder: Binder,
    inputs: dict[str, torch.Tensor],
    state: State,
    sizes: Mapping[str, int],
) -> Choice:
    options = attempt.options
    device = device_of(traced, attempt.args)
    attempt.storages = _storages(attempt, device)
    measured = options.choice == "measured"
    further = partial(_approximations, attempt, binder) if attempt.storages else None
    found = gather(
        traced.original, attempt.forms, options.exclude, device.type, options.kernels,
        storages=attempt.storages, certain=measured, further=further,
    )  # fmt: skip
    binder.weights |= {t.name: from_numpy(v, t.dtype).to(device) for t, v in found.weights.items()}
    label_approximations(attempt, found)
    if options.strict:
        _keep_non_finite(found)
    records = Records(options.records, machine_fingerprint(device))
    values = {**inputs, **{n: t.clone() for n, t in state.tensors.items()}}
    between = sum(binder.weights[w.name].nbytes for w in traced.original.weights if w.name in binder.weights)
    cached = between if device.type == "cpu" else 0
    profiler = Profiler(values, binder, synchronizer(device), cached) if measured else None
    priced = cost_model(options.cost_model, measured_balance(device, records) if measured else Balance())
    model = ModelPrices(traced.algebra, attempt.sizes, priced)
    pricer = attempt.pricer = Pricer(model, records, binder, sizes, profiler, attempt.until(CHOOSING_SHARE))
    chosen = choose(traced.original, attempt.forms, found, pricer, options.kernels, attempt.prover.admits)
    record(
        "choose",
        "chosen",
        candidates=len(found.admitted),
        refused=len(found.refused),
        microseconds=round(chosen.solution.total_us, 1),
    )
    attempt.plain = only_originals(traced.original, found, chosen.prices)
    return chosen


def _approximations(attempt: Attempt, binder: Binder, found: Candidates) -> tuple[Sequence[Program], Sequence[Program]]:
    """Forms with factorized weights, and their new parts."""
    attempt.errors = errors_of(attempt, found, binder)
    attempt.factors = factors_of(attempt, attempt.errors)
    for storage in attempt.storages:
        for form in attempt.factors.forms:
            storage.learn(form)
    return attempt.factors.forms, [fragment(f, attempt.forms[0]) for f in attempt.factors.forms]


def _storages(attempt: Attempt, device: torch.device) -> tuple[Storage, ...]:
    """The types that a budget lets values be stored in."""
    if not attempt.budget.approximates or device.type != "cpu":
        return ()
    return Storage(attempt.forms, DType.BF16), Quantized(attempt.forms, partial(_samples, attempt))


def _samples(attempt: Attempt, tensor: Tensor) -> list[Array]:
    """The values that a tensor takes on the example and on the calibration data; none without calibration data.

    Scales of codes need to have seen data: one example is not enough.
    """
    return (
        []
        if attempt.errors is None or len(attempt.samples) == 1
        else [t.numpy() for t in attempt.errors.values(tensor)]
    )


def _weights(traced: Traced, programs: Sequence[Program], device: torch.device) -> dict[str, torch.Tensor]:
    """Torch tensors of every weight: the user's own where nothing was folded."""
    found = {n: t.detach() for n, t in traced.weights.items()}
    for program, weight in ((p, w) for p in programs for w in p.weights):
        if weight.name not in found and weight.name in program.constants:
            found[weight.name] = from_numpy(program.constants[weight.name], weight.dtype).to(device)
        elif weight.name not in found and is_formula(weight.structure):
            found[weight.name] = torch.from_numpy(materialize(weight)).to(device, torch_dtype(weight.dtype))
    return found


def device_of(traced: Traced, args: Any) -> torch.device:
    """Where a model lives: with its weights, else with its inputs."""
    for tensor in traced.weights.values():
        return tensor.device
    leaves = pytree.tree_leaves(args)
    return next((t.device for t in leaves if isinstance(t, torch.Tensor)), torch.device("cpu"))


def _tensor_inputs(traced: Traced, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves((args, kwargs))
    return [leaf.detach() for leaf, name in zip(leaves, traced.inputs, strict=True) if name is not None]


class _Respecialize:
    """Compiles for new shapes, the changed dimensions dynamic, until the bound is reached."""

    def __init__(self, attempt: Attempt, state: State) -> None:
        self._attempt, self._state, self._count = attempt, state, 1

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Specialization | None:
        """The new specialization, or ``None`` when there are too many or this shape cannot be compiled."""
        if self._count >= MAX_SPECIALIZATIONS:
            return None
        self._count += 1
        shapes = dynamic_from(self._attempt.args, self._attempt.kwargs, args, kwargs, self._attempt.model)
        options = replace(self._attempt.options, progress=None)
        if options.spending.max_drop is not None:  # nobody measures the metric now: exact plans keep any
            options = replace(options, budget=None)
        for dynamic in (shapes, None):
            fresh = Attempt(self._attempt.model, args, kwargs, dynamic, options, time.perf_counter())
            try:
                special, state = specialize(fresh, self._state.tensors)
                self._state.adopt(state)
                if options.verify:
                    verify_plan(fresh, special, self._state)
                found = approximated(fresh, special, self._state) if fresh.storages else None
                special = special if found is None else found.special
            except TpoptError:
                continue
            special.binder.keep_only((s.stage for s in special.plan.steps), fresh.sizes)
            return special
        return None
