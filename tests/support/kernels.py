"""Library candidates of a torch function, and what they compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.library import library_candidates
from tpopt.backend.library.contraction import Contraction, match_contraction
from tpopt.choose.candidate import Candidate, Candidates
from tpopt.choose.pricing import planned
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Compute, Program
from tpopt.ir.aten import flatten_outputs, from_numpy
from tpopt.rewrite import Trace, registry


class Wrapped(torch.nn.Module):
    """A function over the parameters of some modules."""

    def __init__(self, function: Callable[..., Any], *modules: torch.nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, torch.nn.ModuleList(modules)

    def forward(self, *args: Any) -> Any:
        return self.function(*self.parts, *args)


@dataclass(frozen=True)
class Offer:
    """What the libraries offer for a function of tensors, and the means to run it."""

    traced: Traced
    cleaned: Program
    found: Candidates
    args: tuple[torch.Tensor, ...]
    model: Wrapped

    def named(self, kind: str) -> list[Candidate]:
        """Candidates of a kind."""
        return [c for c in self.found.admitted if c.kind == kind]

    def reasons(self) -> list[str]:
        """Why candidates were refused."""
        return [r.reason for r in self.found.refused]

    def contraction(self) -> Contraction:
        """The only contraction, its weight on the right."""
        (stage,) = (
            s for s in self.cleaned.stages if isinstance(s, Compute) and not isinstance(match_contraction(s), str)
        )
        match = match_contraction(stage)
        assert isinstance(match, Contraction)
        return match if match.right.tensor in self.cleaned.weights else match.swapped()

    def run(self, candidate: Candidate, **values: torch.Tensor) -> torch.Tensor:
        """What a candidate makes of the arguments and of other values by name, each in the layout it asks for."""
        known = {**self.weights(), **dict(zip((t.name for t in self.traced.algebra.inputs), self.args, strict=True))}
        known.update(values)
        known.update({f"{n}.cl": t.to(memory_format=torch.channels_last) for n, t in known.items() if t.dim() == 4})
        call = Binder(self.weights()).bind(planned(candidate), {})
        with torch.no_grad():
            args, kwargs = call.fill(known.__getitem__)
            return flatten_outputs(call.function(*args, **kwargs))[0]

    def weights(self) -> dict[str, torch.Tensor]:
        """Every weight, folded ones too."""
        folded = {w.name: from_numpy(self.cleaned.constants[w.name], w.dtype) for w in self.cleaned.weights}
        return {**folded, **self.traced.weights}

    def expected(self) -> torch.Tensor:
        """torch's own result."""
        with torch.no_grad():
            return self.model(*self.args)


def offer(
    function: Callable[..., Any],
    *args: torch.Tensor,
    parts: tuple[torch.nn.Module, ...] = (),
    pipeline: str = "default",
) -> Offer:
    """Traces ``function(*parts, *args)``, cleans it up and asks every library."""
    model = Wrapped(function, *parts).eval()
    traced = trace(model, args)
    cleaned = registry().parse(pipeline).run(traced.algebra, Trace())
    found = Candidates()
    library_candidates(cleaned, found)
    return Offer(traced, cleaned, found, args, model)
