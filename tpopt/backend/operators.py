"""torch's operators as plain functions: the one place that reaches behind ``torch.ops``' Python wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tpopt.ir.aten import resolve


def function(target: str) -> Callable[..., Any]:
    """The operator ``namespace.name.overload`` without its Python wrapper (0.2 µs a call less)."""
    found: Callable[..., Any] = resolve(target)._op
    return found


def out_function(target: str) -> Callable[..., Any] | None:
    """The overload that takes the same arguments and ``out=``, if the operator has one."""
    operator = resolve(target)
    wanted = [(a.name, str(a.type)) for a in operator._schema.arguments]
    packet = operator._overloadpacket
    for name in packet.overloads():
        overload = getattr(packet, name)
        own = overload._schema.arguments
        if own and own[-1].name == "out" and own[-1].is_out and [(a.name, str(a.type)) for a in own[:-1]] == wanted:
            found: Callable[..., Any] = overload._op
            return found
    return None


def returns_one_tensor(target: str) -> bool:
    """Whether the operator's result is a single tensor."""
    returns = resolve(target)._schema.returns
    return len(returns) == 1 and str(returns[0].type) == "Tensor"


class inference:  # noqa: N801 - reads as torch.no_grad does
    """No gradients, and no dispatch through autograd at all (0.3 µs an operator less than ``no_grad`` alone)."""

    def __enter__(self) -> None:
        self._was_enabled = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        self._below = torch._C._AutoDispatchBelowAutograd()
        self._below.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: object) -> None:
        self._below.__exit__(*raised)
        torch._C._set_grad_enabled(self._was_enabled)
