"""The forms of one program that a pipeline passes through, where the last one need not be the fastest to compute."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpopt.ir import Program
from tpopt.rewrite.passes import Pipeline, Step, check_contract
from tpopt.rewrite.trace import Trace


@dataclass
class _Bargains:
    """Collects what passes made that only a price can judge."""

    made: list[Program] = field(default_factory=list)

    def __call__(self, step: Step) -> None:
        if step.what.bargain and step.after is not step.before:
            self.made.append(step.after)


def forms(pipeline: Pipeline, program: Program, trace: Trace | None = None) -> tuple[Program, ...]:
    """The result of the pipeline, then the other forms of the program that are worth a candidate.

    Most passes always pay. Where one that strikes a bargain (merging products, say) changed the program, the program
    without such passes stays on offer, and so does what the pass made before views were composed into their readers: it
    tells how the tensors of the one form come from those of the other. Last come the alternatives that passes derive
    from the program without bargains. A name means the same value in all forms (the contract of :class:`Pass`).
    """
    bargains, record = _Bargains(), trace if trace is not None else Trace()
    result = pipeline.with_callbacks(bargains).run(program, record)
    plain = Pipeline(tuple(p for p in pipeline.passes if not p.bargain)).run(program) if bargains.made else result
    struck = (plain, *bargains.made) if bargains.made else ()
    return (result, *struck, *_alternatives(pipeline, plain, record))


def _alternatives(pipeline: Pipeline, program: Program, trace: Trace) -> list[Program]:
    found: list[Program] = []
    for what in dict.fromkeys(pipeline.passes):
        with trace.within(what.name):
            offered = what.alternatives(program, trace)
        for form in offered:
            check_contract(what, program, form)
        found.extend(offered)
    return found
