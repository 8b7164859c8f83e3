"""The check of a compiled callable: against the original, with the program in float64 as the judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tpopt.errors import TpoptError, VerificationFailed
from tpopt.ir.digest import digest
from tpopt.ir.program import Program
from tpopt.ir.stages import Opaque
from tpopt.ir.to_torch import to_torch
from tpopt.ir.to_torch.setting import bind_symbols
from tpopt.rewrite.numerics import Numerics
from tpopt.verify.compare import Excuse, Rules, Sample, compare
from tpopt.verify.inputs import KINDS
from tpopt.verify.reference import Reference
from tpopt.verify.report import failure, unfaithful, where
from tpopt.verify.runs import InputSet, altered, input_sets, run, same, sample_sets
from tpopt.verify.ties import tied
from tpopt.verify.tolerance import coarseness, exact_type, finite_norm
from tpopt.verify.verification import OutputRow, Verification, summary

Call = Callable[..., Any]
"""Takes the program's inputs in order; the tensors among its results are the program's outputs in order."""

INTERPRETER_SECONDS = 10.0
"""What the interpreter may take in all."""
_ORDINARY = 2
"""Sets of inputs that are always tried, however little time there is."""


def verify(
    original: Call,
    candidate: Call,
    program: Program,
    *,
    seed: int = 0,
    tolerance: float = 1e-5,
    numerics: Numerics = Numerics.REASSOCIATING,
    example_inputs: Sequence[torch.Tensor],
    strict: bool = False,
    seconds: float | None = None,
    stages: Callable[..., Any] | None = None,
) -> Verification:
    """Like :func:`check`, whose arguments it takes, but a failure raises :class:`VerificationFailed`.

    ``stages`` runs the candidate on the program's inputs and returns the values of its tensors by name; with it the
    error names the first stage that went wrong, besides the figures and what to do.
    """
    result = check(
        original, candidate, program, seed=seed, tolerance=tolerance, numerics=numerics,
        example_inputs=example_inputs, strict=strict, seconds=seconds,
    )  # fmt: skip
    if not result.passed:
        found = None if stages is None else where(result, program, example_inputs, stages)
        raise VerificationFailed(failure(result, program, found))
    return result


def check(
    original: Call,
    candidate: Call,
    program: Program,
    *,
    seed: int = 0,
    tolerance: float = 1e-5,
    numerics: Numerics = Numerics.REASSOCIATING,
    example_inputs: Sequence[torch.Tensor],
    strict: bool = False,
    seconds: float | None = None,
    interpreter_seconds: float = INTERPRETER_SECONDS,
    samples: Sequence[Sequence[torch.Tensor]] = (),
) -> Verification:
    """Compares a candidate with the original on the example, on two random seeds, and on adversarial inputs.

    Args:
        original: the user's model. Called with copies of the inputs, under ``no_grad``.
        candidate: what is to be admitted.
        program: the algebra that both compute; in float64 it is the reference.
        seed: of the random inputs.
        tolerance: relative L2 error that ``conditioning`` (and ``approximate``) rewrites may reach.
        numerics: the loosest label among the rewrites.
        example_inputs: one tensor for each input of the program.
        strict: NaN and infinities must be where the original has them, on inputs that hold some.
        seconds: after this long no further kind of inputs is begun (the example and one seed always are).
        interpreter_seconds: what the interpreter may take in all (at most half of ``seconds``); when it is used up,
            torch in double is the reference.
        samples: sets of inputs, the example first, that are tried in the place of all others: for a candidate that is
            made for data of that kind.

    Raises:
        VerificationFailed: the program itself does not compute what the original computes.
        UnsupportedInput: the example does not fit the program.
    """
    start = time.perf_counter()
    sizes = bind_symbols(program.inputs, [tuple(t.shape) for t in example_inputs], {})
    kinds = [k for k in KINDS if strict or k != "special"]
    session = _Session(original, candidate, program, Rules(numerics, tolerance, coarseness(program), strict))
    allowed = interpreter_seconds if seconds is None else min(interpreter_seconds, seconds / 2)
    session.reference = Reference(program, allowed)
    sets = sample_sets(samples) if samples else input_sets(program, example_inputs, sizes, seed, kinds)
    for number, given in enumerate(sets):
        if seconds is not None and number >= _ORDINARY and time.perf_counter() - start > seconds:
            session.notes.append(f"{given.label}: not tried, the time is used up")
            continue
        session.try_set(given)
    return session.result(seed)


@dataclass
class _Session:
    """What is known while the sets of inputs are tried one after the other."""

    original: Call
    candidate: Call
    program: Program
    rules: Rules
    reference: Reference = field(init=False)
    rows: list[OutputRow] = field(default_factory=list)
    tried: list[InputSet] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)
    held: tuple[list[torch.Tensor], list[torch.Tensor]] | None = None

    @property
    def kept(self) -> list[int]:
        """Outputs that the user gets (the others overwrite state)."""
        state = {a.output for a in self.program.aliases}
        return [n for n in range(len(self.program.outputs)) if n not in state]

    def try_set(self, given: InputSet) -> None:
        """Runs all three on one set of inputs and compares every output."""
        inputs = given.make()
        try:
            wanted = self._run(self.original, given.make())
            truth = self._truth(inputs, wanted)
        except Exception as error:
            if not self.tried:
                raise
            self.notes.append(f"{given.label}: the original or the reference refuses them: {_brief(error)}")
            return
        if not self.tried:
            self._faithful(inputs, wanted, truth)
        self.tried.append(given)
        mine = given.make()
        try:
            got = self._run(self.candidate, mine)
        except Exception as error:  # noqa: BLE001 (whatever the candidate raises, the original did not)
            self._refused(given, f"the candidate raises {_brief(error)}; the original does not")
            return
        self._compare(given, inputs, got, wanted, truth, self._shaken(given))
        changed = [self.program.inputs[n].name for n in altered(mine, inputs)]
        overwritten = {a.target for a in self.program.aliases}
        if any(name not in overwritten for name in changed):
            self._refused(given, f"the candidate overwrites its inputs {', '.join(changed)}")
        self._hold(given, got)

    def _shaken(self, given: InputSet) -> list[torch.Tensor] | None:
        """The original's results on adversarial inputs rounded to bf16, for a candidate that may round like that."""
        if not given.adversarial or self.rules.numerics is not Numerics.APPROXIMATE:
            return None
        rounded = [t.to(torch.bfloat16).to(t.dtype) if t.is_floating_point() else t for t in given.make()]
        try:
            return self._run(self.original, rounded)
        except Exception:  # noqa: BLE001 (what the original does not take is no measure of anything)
            return None

    def _run(self, call: Call, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return run(call, inputs, len(self.program.outputs), self.kept)

    def _truth(self, inputs: list[torch.Tensor], wanted: list[torch.Tensor]) -> list[torch.Tensor]:
        if any(isinstance(s, Opaque) and s.effectful for s in self.program.stages):
            self.reference.used["the original (the program draws random numbers or has effects)"] = None
            return wanted
        found = self.reference([t.cpu() for t in inputs])
        return [found[k] for k in self.kept]

    def _faithful(self, inputs: list[torch.Tensor], wanted: list[torch.Tensor], truth: list[torch.Tensor]) -> None:
        """The program must be the original's, up to what its own rounding explains."""
        rounded = to_torch(self.program, device="cpu")(*(t.cpu() for t in inputs)) if wanted is not truth else wanted
        outputs = [self.program.outputs[k] for k in self.kept]
        own = [rounded[k] for k in self.kept] if wanted is not truth else wanted
        excuse = self._excuse(inputs)
        for tensor, e, r, p in zip(outputs, wanted, truth, own, strict=True):
            problem = unfaithful(tensor, exact_type(e), exact_type(r), exact_type(p), self.rules.coarse, excuse)
            if problem:
                raise VerificationFailed(problem)

    def _excuse(self, inputs: list[torch.Tensor]) -> Excuse:
        cpu = [t.cpu() for t in inputs]
        return lambda name, chosen, slack: tied(self.program, name, cpu, chosen, slack)

    def _compare(
        self,
        given: InputSet,
        inputs: list[torch.Tensor],
        got: list[torch.Tensor],
        wanted: list[torch.Tensor],
        truth: list[torch.Tensor],
        shaken: list[torch.Tensor] | None,
    ) -> None:
        excuse = self._excuse(inputs)
        others = shaken if shaken is not None and len(shaken) == len(wanted) else [None] * len(wanted)
        for k, c, e, r, s in zip(self.kept, got, wanted, truth, others, strict=True):
            tensor = self.program.outputs[k]
            if not given.adversarial and (r.is_floating_point() or r.is_complex()):
                self.scales[tensor.name] = max(self.scales.get(tensor.name, 0.0), finite_norm(exact_type(r)))
            scale = self.scales.get(tensor.name, 0.0) if given.adversarial else 0.0
            sample = Sample(given.label, tensor, c, e, r, scale, given.adversarial, s)
            self.rows.append(compare(sample, self.rules, excuse))

    def _hold(self, given: InputSet, got: list[torch.Tensor]) -> None:
        """What the user got from an earlier call must stay as it was."""
        if self.held is not None and not all(same(a, b) for a, b in zip(*self.held, strict=True)):
            self._refused(given, "results of an earlier call were overwritten by this one")
        self.held = (got, [t.clone() for t in got])

    def _refused(self, given: InputSet, why: str) -> None:
        for k in self.kept:
            tensor = self.program.outputs[k]
            self.rows.append(
                OutputRow(inputs=given.label, name=tensor.name, dtype=str(tensor.dtype), note=why, passed=False)
            )

    def result(self, seed: int) -> Verification:
        """Everything in one value."""
        return summary(
            self.rows,
            seed=seed,
            numerics=self.rules.numerics,
            kinds=[s.label for s in self.tried],
            ordinary=[s.label for s in self.tried if not s.adversarial],
            reference=", then ".join(self.reference.used),
            notes=[*self.notes, *self.reference.notes],
            digest=digest(str(self.program)),
        )


def _brief(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, TpoptError) else f"{type(error).__name__}: {text}"
