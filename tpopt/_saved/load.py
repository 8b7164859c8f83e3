"""Reads a saved model: every member is checked, the plan is bound as it was chosen, or chosen again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tpopt._saved.admit import admit
from tpopt._saved.known import remember
from tpopt._saved.module import SavedModule
from tpopt._saved.records import Contents, Interface, Steps, decode
from tpopt._saved.save import FIXED, REQUIRES, RESULTS, Saveable, save
from tpopt._saved.tensors import declared, decode_tensors
from tpopt._saved.trees import parse_tree
from tpopt.backend.binding import Binder
from tpopt.backend.library import binders
from tpopt.backend.machine import machine_fingerprint
from tpopt.backend.plan import Plan, Step
from tpopt.errors import CorruptFile, InvalidProgram, KernelBuildFailed, KernelUnsupported, TpoptError, UnsupportedInput
from tpopt.frontend.context import KEPT_WHOLE
from tpopt.ir import Guard, Index, Kernel, Opaque, Program, Tensor
from tpopt.ir.parse import parse_stage
from tpopt.ir.terms import Bound
from tpopt.report import Report
from tpopt.runtime.compiled import CompiledModel, PlanCallable, Signature, Specialization, State
from tpopt.runtime.guards import InputGuard
from tpopt.store.archive import open_archive

_log = logging.getLogger("tpopt")


@dataclass(frozen=True)
class SavedModel:
    """The checked contents of a file, weights aside."""

    contents: Contents
    interface: Interface
    original: Program
    algebra: Program
    plan: Plan | None
    signature: Signature
    guard: InputGuard
    device: torch.device

    @property
    def path(self) -> Path:
        """The file."""
        return self.contents.archive.path

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Run-time extents of the example."""
        return {s.name: s.value for s in self.interface.sizes}

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """Values that the plan needs."""
        return self._tensors("weights.safetensors")

    def everything(self) -> dict[str, torch.Tensor]:
        """Values of all weights of all programs in the file."""
        return {**self.weights, **self._tensors("rest.safetensors")}

    def _tensors(self, member: str) -> dict[str, torch.Tensor]:
        where = f"{self.path}: {member}"
        programs = [self.original, self.algebra, *([] if self.plan is None else [self.plan.program])]
        wanted = {t.name: t for p in programs for t in (*p.inputs, *p.weights)}
        found = declared(decode_tensors(self.contents.read(member), where), wanted.values(), where)
        return {n: t.to(self.device) for n, t in found.items()}

    def examples(self) -> list[torch.Tensor] | None:
        """The example inputs in the order of the program's; ``None`` where the file was saved without them."""
        member = "examples.safetensors"
        if member not in self.contents:
            return None
        where = f"{self.path}: {member}"
        inputs = self.guard.inputs
        found = declared(decode_tensors(self.contents.read(member), where), inputs, where)
        if any(t.name not in found for t in inputs):
            raise CorruptFile(f"{where} lacks an input")
        return [found[t.name].to(self.device) for t in inputs]

    def state(self) -> State:
        """The buffers that calls update, as they were when the model was saved."""
        names = {s.name: s.path for s in self.interface.states}
        missing = [n for n in names if n not in self.weights]
        if missing:
            raise CorruptFile(f"{self.path}: the value of {missing[0]} is missing")
        return State({n: self.weights[n].clone() for n in names}, names)

    def module(self) -> SavedModule:
        """The model as it was before it was compiled."""
        wanted = [w.name for w in self.original.weights if not _has_formula(w)]

        def read() -> Mapping[str, torch.Tensor]:
            values = self.everything()
            missing = [n for n in wanted if n not in values]
            if missing:
                raise CorruptFile(f"{self.path}: the value of weight {missing[0]} is missing")
            return {n: values[n] for n in wanted}

        return SavedModule(self.original, self.signature, self.guard, self.state().tensors, read)

    def report(self) -> Report:
        """How the model was compiled."""
        return decode(Report, self.contents.read("report.json"), f"{self.path}: report.json")


def offered(saved: SavedModel) -> bool:
    """Whether every library kernel of the plan is one that this tpopt offers for the algebra that it stands for."""
    from tpopt._saved.again import is_offered

    return saved.plan is None or is_offered(saved)


def load(path: str | Path) -> CompiledModel:
    """A model that ``CompiledModel.save`` wrote, ready to run.

    On the machine that it was compiled on, with the cache of that user, the plan is bound as it is: neither TVM nor a
    compiler is needed. Elsewhere, or where a kernel is missing that cannot be built, kernels are chosen again by the
    cost model, with one warning; ``tpopt optimize file.tpg -o file.tpg`` chooses by measurement.

    The file is data and is not trusted: nothing in it is executed, and whatever is not as it should be is refused. The
    model itself is its author's: it computes what it computes.

    Args:
        path: a file that ends in ``.tpg``.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        CorruptFile: it is damaged, forged, or from a later version; the message says what is wrong.
    """
    saved = read(path)
    plan, reason = _usable_plan(saved)
    if reason:
        _log.warning("%s: %s", saved.path, reason)
    state = saved.state()
    special = _bound(saved, plan or _originals(saved.original), state)
    if not saved.contents.known:
        remember(saved.contents.key)
    run = PlanCallable(special, {}, state, lambda: False, _refuse(saved), saved.module())
    kept = plan if saved.plan is not None else None
    return CompiledModel(run, run.original, saved.report(), saved.algebra, kept, _saver(saved, plan, state))


def read(path: str | Path) -> SavedModel:
    """The contents of a file, checked; weights are read when they are needed. Raises as :func:`load` does."""
    contents = Contents(open_archive(Path(path)))
    where = f"{contents.archive.path}: "
    interface = decode(Interface, contents.read("interface.json"), f"{where}interface.json")
    known = contents.known
    original = admit(contents.text("original.txt"), f"{where}original.txt", known=known)
    algebra = admit(contents.text("algebra.txt"), f"{where}algebra.txt", KEPT_WHOLE, known=known)
    if not all(isinstance(s, Opaque) for s in original.stages):
        raise CorruptFile(f"{where}original.txt holds more than calls of operators")
    if (algebra.inputs, algebra.outputs, algebra.aliases) != (original.inputs, original.outputs, original.aliases):
        raise CorruptFile(f"{where}algebra.txt takes or returns other tensors than original.txt")
    plan = _plan(contents, original, where) if contents.manifest.status == "optimized" else None
    _check_declarations([original, algebra, *([] if plan is None else [plan.program])], where)
    states = len(interface.states)
    inputs = original.inputs[: len(original.inputs) - states]
    if [t.name for t in original.inputs[len(inputs) :]] != [s.name for s in interface.states]:
        raise CorruptFile(f"{where}interface.json names other states than the program")
    device = torch.device(_device(contents.manifest.device, where))
    signature, required = _signature(interface, original, [t.name for t in inputs], f"{where}interface.json")
    guard = InputGuard(inputs, device, required)
    return SavedModel(contents, interface, original, algebra, plan, signature, guard, device)


def _check_declarations(programs: list[Program], where: str) -> None:
    """A name means one tensor in all programs of a file."""
    known: dict[str, Tensor] = {}
    for program in programs:
        for tensor in (*program.inputs, *program.weights):
            if known.setdefault(tensor.name, tensor) is not tensor:
                raise CorruptFile(f"{where}{tensor.name} is declared as {known[tensor.name]!r} and as {tensor!r}")


def _device(name: str, where: str) -> str:
    if name not in ("cpu", "cuda"):
        raise CorruptFile(f"{where}manifest.json names a device {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UnsupportedInput(f"{where}the model was compiled for CUDA, which this process does not have")
    return name


def _plan(contents: Contents, original: Program, where: str) -> Plan:
    program = admit(contents.text("plan.txt"), f"{where}plan.txt", binders(), known=contents.known)
    rows = decode(Steps, contents.read("steps.json"), f"{where}steps.json").steps
    if len(rows) != len(program.stages) or not all(isinstance(s, (Kernel, Opaque)) for s in program.stages):
        raise CorruptFile(f"{where}steps.json does not belong to plan.txt")
    if (program.inputs, program.aliases) != (original.inputs, original.aliases):
        raise CorruptFile(f"{where}plan.txt takes other inputs than original.txt")
    if [(o.name, o.dtype, o.shape) for o in program.outputs] != [(o.name, o.dtype, o.shape) for o in original.outputs]:
        raise CorruptFile(f"{where}plan.txt returns other tensors than original.txt")
    steps = tuple(Step(stage, row.kind, row.name) for stage, row in zip(program.stages, rows, strict=True))
    return Plan(program, steps)


def _originals(original: Program) -> Plan:
    """The plan that runs every operator as it was."""
    return Plan(original, tuple(Step(s, "original", s.target) for s in original.stages if isinstance(s, Opaque)))


def _signature(interface: Interface, program: Program, inputs: list[str], where: str) -> tuple[Signature, Guard]:
    try:
        fixed, results, requires = (
            parse_stage(text, program.tensors, program.symbols)
            for text in (interface.fixed, interface.results, interface.requires)
        )
    except (TpoptError, RecursionError, ValueError, TypeError, LookupError) as error:
        raise CorruptFile(f"{where}: {str(error).splitlines()[0]}") from error
    found = (fixed, results, requires)
    if [getattr(s, "target", "") for s in found] != [FIXED, RESULTS, REQUIRES]:
        raise CorruptFile(f"{where} has no fixed values, results or conditions")
    assert isinstance(fixed, Opaque)
    assert isinstance(results, Opaque)
    assert isinstance(requires, Opaque)
    in_spec = parse_tree(interface.inputs, f"{where}: inputs")
    out_spec = parse_tree(interface.outputs, f"{where}: outputs")
    _check_signature(interface, inputs, fixed, in_spec, where)
    tensors = [r for r in results.args if isinstance(r, Tensor)]
    kept = program.outputs[: len(program.outputs) - len(program.aliases)]
    if out_spec.num_leaves != len(results.args) or tuple(tensors) != kept:
        raise CorruptFile(f"{where}: the results are not those of the program")
    bounds = []
    for triple in requires.args:
        if not (isinstance(triple, tuple) and len(triple) == 3 and all(isinstance(i, Index) for i in triple)):
            raise CorruptFile(f"{where}: a condition is not three indices")
        low, value, high = triple
        bounds.append(Bound(low, value, high))  # type: ignore[arg-type]
    return Signature(in_spec, out_spec, interface.leaves, fixed.args, results.args), Guard(tuple(bounds))


def _check_signature(interface: Interface, inputs: list[str], fixed: Opaque, in_spec: Any, where: str) -> None:
    leaves = interface.leaves
    if not len(leaves) == len(fixed.args) == in_spec.num_leaves or [n for n in leaves if n is not None] != inputs:
        raise CorruptFile(f"{where}: the inputs are not those of the program")
    if in_spec.num_children != 2 or in_spec.child(1).type is not dict or in_spec.child(0).type is not tuple:
        raise CorruptFile(f"{where}: the inputs are no arguments and keywords")


def _usable_plan(saved: SavedModel) -> tuple[Plan | None, str]:
    """The plan of the file, or one chosen again and why; no plan where the file has none."""
    if saved.plan is None:
        return None, ""
    here = machine_fingerprint(saved.device)
    if here != saved.contents.manifest.machine:
        there = saved.contents.manifest.machine
        reason = f"it was compiled on another machine or with other versions ({there}); here: {here}"
        kernels = saved.contents.manifest.kernels
    else:
        missing = _missing(saved.plan)
        if missing is None:
            if saved.contents.known or offered(saved):
                return saved.plan, ""
            reason, kernels = "the plan has a kernel that this tpopt does not offer for its algebra", "all"
        else:
            reason, kernels = missing, "library"
    from tpopt._saved.again import chosen_again

    again = chosen_again(saved, kernels)
    return again, f"{reason}. Kernels were chosen again by the cost model; tpopt optimize chooses them by measurement"


def _missing(plan: Plan) -> str | None:
    """Why a generated kernel of the plan cannot run here: it is in no cache, and cannot be built."""
    kernels = [s.stage for s in plan.steps if isinstance(s.stage, Kernel)]
    if not any(k.implementation.startswith("generated") for k in kernels):
        return None
    from tpopt.backend.build.pool import build_pool
    from tpopt.backend.generated.binding import build_request, cannot_build, cannot_run

    made = [k for k in kernels if build_request(k) is not None]
    kinds = dict.fromkeys(k.implementation for k in made)
    try:
        for kind in kinds:
            if (reason := cannot_run(kind)) is not None:
                return f"generated kernels cannot run: {reason}"
            requests = [r for k in made if k.implementation == kind and (r := build_request(k)) is not None]
            absent = [r for r in requests if build_pool().cache.get(r.key) is None]
            if absent and (reason := cannot_build(kind)) is not None:
                return f"{len(absent)} of {len(requests)} generated kernels are not in the cache, and {reason}"
            for future in [build_pool().submit(r) for r in absent]:
                future.result()
    except (KernelBuildFailed, KernelUnsupported) as error:
        return f"a generated kernel cannot be had: {error}"
    return None


def _bound(saved: SavedModel, plan: Plan, state: State) -> Specialization:
    weights = saved.weights if plan is saved.plan or saved.plan is None else saved.everything()
    missing = [w.name for w in plan.program.weights if w.name not in weights and not _has_formula(w)]
    if missing:
        raise CorruptFile(f"{saved.path}: the value of weight {missing[0]} is missing")
    names = {w.name for w in plan.program.weights}
    binder = Binder({n: t for n, t in weights.items() if n in names and n not in state.tensors})
    special = Specialization(plan, binder, saved.signature, tuple(state.tensors), saved.guard)
    sizes = saved.sizes
    if all(s.name in sizes for s in saved.original.symbols):
        try:
            special.bind({s.name: sizes[s.name] for s in saved.original.symbols})
        except (InvalidProgram, KernelBuildFailed, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CorruptFile(f"{saved.path}: the plan cannot be bound: {error}") from error
    return special


def _has_formula(weight: Tensor) -> bool:
    from tpopt.ir.structure import DENSE

    return weight.structure is not DENSE


def _refuse(saved: SavedModel) -> Callable[[tuple[Any, ...], dict[str, Any]], None]:
    def refuse(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        raise UnsupportedInput(
            f"{saved.path.name} was compiled for inputs {', '.join(map(repr, saved.guard.inputs))} in the structure of "
            "its example; compile with dynamic_shapes, or with inputs of these shapes, and save again"
        )

    return refuse


def _saver(saved: SavedModel, plan: Plan | None, state: State) -> Callable[..., None]:
    """Saves the model again, with the plan that it has here."""

    def write(path: str | Path, *, examples: bool = True) -> None:
        inputs = (saved.examples() or []) if examples else []
        manifest = saved.contents.manifest
        saveable = Saveable(
            original=saved.original, algebra=saved.algebra, plan=plan, signature=saved.signature,
            requires=saved.guard.required, weights=saved.everything(), states=state.tensors, paths=state.paths,
            sizes=saved.sizes, examples=dict(zip((t.name for t in saved.guard.inputs), inputs, strict=False)),
            device=saved.device, pipeline=manifest.pipeline, kernels=manifest.kernels,
        )  # fmt: skip
        save(saveable, saved.report(), path, examples=examples and bool(inputs))

    return write
