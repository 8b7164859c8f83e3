"""From the tensors of a plan to the arguments of a kernel: constants put in, views of types that TVM does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tpopt.backend.native.loading import as_argument
from tpopt.ir import DType


def passed(value: torch.Tensor) -> torch.Tensor:
    """A tensor as kernels take it: complex numbers as pairs, bf16 as its bits."""
    if value.is_complex():
        return torch.view_as_real(value)
    return value.view(torch.uint16) if value.dtype is torch.bfloat16 else value


def arranged(
    function: Callable[..., Any], slots: Sequence[int | torch.Tensor], dtypes: Sequence[DType]
) -> Callable[..., None]:
    """A function of tensors of these types that passes each of ``slots``: an argument by number, or a constant.

    It is written out, because it stands between every call of a plan and its kernel (0.1 µs, a loop takes 1 µs).
    """
    viewed = [d.is_complex or d is DType.BF16 for d in dtypes]
    if list(slots) == list(range(len(dtypes))) and not any(viewed):
        return function
    names = [f"a{n}" for n in range(len(dtypes))]
    scope: dict[str, Any] = {"function": function, "passed": passed}
    given = []
    for number, slot in enumerate(slots):
        if isinstance(slot, torch.Tensor):
            scope[f"c{number}"] = as_argument(passed(slot.detach()))
            given.append(f"c{number}")
        else:
            given.append(f"passed({names[slot]})" if viewed[slot] else names[slot])
    text = f"def call({', '.join(names)}):\n    function({', '.join(given)})\n"
    exec(compile(text, "<tpopt kernel>", "exec"), scope)  # noqa: S102 - made of names written here
    made: Callable[..., None] = scope["call"]
    return made
