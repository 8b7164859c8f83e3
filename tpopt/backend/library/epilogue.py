"""What library kernels can do to a result on the way out: activations and one added tensor, recognised as terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from tpopt.ir import Apply, Builder, Compute, DType, Iter, Program, Read, Scalar, Tensor, index, rebuild


@dataclass(frozen=True)
class Activation:
    """An operator of one argument, and what oneDNN calls it."""

    target: str
    arguments: tuple[Any, ...]
    attribute: str
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


NOTHING = Activation("", (), "none")
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "": NOTHING,
        "relu": Activation("aten.relu.default", (), "relu"),
        "relu6": Activation("aten.hardtanh.default", (0.0, 6.0), "hardtanh", (0.0, 6.0)),
        "sigmoid": Activation("aten.sigmoid.default", (), "sigmoid"),
        "tanh": Activation("aten.tanh.default", (), "tanh"),
        "gelu": Activation("aten.gelu.default", ("none",), "gelu", (), "none"),
        "gelu_tanh": Activation("aten.gelu.default", ("tanh",), "gelu", (), "tanh"),
        "silu": Activation("aten.silu.default", (), "swish"),
        "hardswish": Activation("aten.hardswish.default", (), "hardswish"),
        "hardsigmoid": Activation("aten.hardsigmoid.default", (), "hardsigmoid"),
    }
)
"""Activations that library kernels may apply; the empty name is none."""


@dataclass(frozen=True)
class Epilogue:
    """``activation(result + other)``; both optional. ``stages`` are what it absorbs after the contraction.

    ``out`` is what the last of them (the contraction itself where there are none) computes.
    """

    out: Tensor
    stages: tuple[Compute, ...] = ()
    other: Tensor | None = None
    activation: str = ""


@cache
def _forms(dtype: DType) -> Mapping[Scalar, str]:
    """The algebra of every activation over a placeholder, as the frontend writes it and as simplification leaves it."""
    from tpopt.frontend.context import Context
    from tpopt.frontend.own_weights import OwnWeights
    from tpopt.frontend.registry import lowerings
    from tpopt.passes.simplify import RULES
    from tpopt.rewrite import Trace, rewrite_term

    x = Tensor("x", (3,), dtype)
    forms: dict[Scalar, str] = {}
    for name, known in ACTIVATIONS.items():
        rule = lowerings().get(known.target)
        if rule is None:
            continue
        builder = Builder(("x",))
        out = Tensor("y", (3,), dtype)
        rule(Context(known.target, builder, "y", (out,), (True,), {}, OwnWeights(builder, {})), x, *known.arguments)
        stage = builder.stages[-1]
        if len(builder.stages) == 1 and isinstance(stage, Compute):
            body = _on_placeholder(stage.bodies[0], x, stage)
            forms.setdefault(body, name)
            forms.setdefault(rewrite_term(body, RULES, Trace()), name)
    return MappingProxyType(forms)


def _on_placeholder(body: Scalar, tensor: Tensor, stage: Compute) -> Scalar:
    """The body with ``tensor[loops]`` replaced by one fixed read, so that equal functions are one term."""
    mark = Tensor("_", (1,), tensor.dtype)[0]
    return rebuild(
        body, lambda t: mark if isinstance(t, Read) and t.tensor is tensor and at_point(t, stage.loops) else t
    )


def at_point(read: Read, loops: Sequence[Iter]) -> bool:
    """Whether a tensor is read at the very point of some loops (an axis of extent 1 may be read at 0)."""
    if len(read.indices) != len(loops):
        return False
    pairs = zip(read.indices, loops, strict=True)
    return all(i is index(loop) or (loop.extent == 1 and i.constant == 0) for i, loop in pairs)


def activation_of(stage: Compute, tensor: Tensor) -> str | None:
    """The name of the activation that ``stage`` applies to ``tensor``, point by point."""
    if len(stage.bodies) != 1 or tuple(map(index, tensor.shape)) != tuple(index(i.extent) for i in stage.loops):
        return None
    return _forms(tensor.dtype).get(_on_placeholder(stage.bodies[0], tensor, stage))


def _marked(body: Scalar, part: Scalar, dtype: DType) -> tuple[Scalar, Scalar]:
    """The placeholder, and the body with ``part`` replaced by it."""
    mark = Tensor("_", (1,), dtype)[0]
    return mark, rebuild(body, lambda t: mark if t is part else t)


def added_to(stage: Compute, tensor: Tensor) -> tuple[Tensor, str] | None:
    """``(other, activation)`` where ``stage`` is ``activation(tensor + other)`` on equal shapes."""
    if len(stage.bodies) != 1 or tensor.shape != stage.outs[0].shape:
        return None
    for term in [stage.bodies[0], *_operands(stage.bodies[0])]:
        if not isinstance(term, Apply) or term.function != "add" or len(term.args) != 2:
            continue
        points = [a.tensor for a in term.args if isinstance(a, Read) and at_point(a, stage.loops)]
        if len(points) != 2 or tensor not in points or points[0] is points[1]:
            continue
        other = points[1] if points[0] is tensor else points[0]
        mark, outer = _marked(stage.bodies[0], term, tensor.dtype)
        name = "" if outer is mark else _forms(tensor.dtype).get(outer)
        if name is not None and other.shape == tensor.shape:
            return other, name
    return None


def _operands(body: Scalar) -> tuple[Scalar, ...]:
    from tpopt.ir import postorder

    return tuple(t for t in postorder(body) if t is not body)


def epilogues(program: Program, out: Tensor) -> Iterator[Epilogue]:
    """Every epilogue that the consumers of ``out`` allow, the empty one first."""
    yield Epilogue(out)
    for stage in program.consumers.get(out, ()):
        if not isinstance(stage, Compute):
            continue
        name = activation_of(stage, out)
        if name:
            yield Epilogue(stage.outs[0], (stage,), None, name)
            continue
        added = added_to(stage, out)
        if added is None:
            continue
        other, name = added
        yield Epilogue(stage.outs[0], (stage,), other, name)
        if name:
            continue
        for later in program.consumers.get(stage.outs[0], ()):
            after = activation_of(later, stage.outs[0]) if isinstance(later, Compute) else None
            if after and isinstance(later, Compute):
                yield Epilogue(later.outs[0], (stage, later), other, after)
