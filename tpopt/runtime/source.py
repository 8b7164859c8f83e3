"""Writes a bound plan as a Python function: one line a call, values as locals, each dropped after its last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from tpopt.backend.call import Call, Ref


class PlanSource:
    """The text of ``run(<inputs>, buffers)`` and the objects that its globals name.

    ``placed`` maps a value to its position in ``buffers``: its call writes there with ``out=``. ``direct`` maps the
    position of a call to the function that takes its results' tensors as well; those without a place are allocated.
    ``after`` is called when a call is done and what nobody needs any more is gone.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        calls: Sequence[Call],
        outputs: Sequence[str],
        constants: Mapping[str, Any],
        placed: Mapping[str, int],
        copied: frozenset[int] = frozenset(),
        direct: Mapping[int, Callable[..., None]] = MappingProxyType({}),
        *,
        after: Callable[[], None] | None = None,
    ) -> None:
        self.globals: dict[str, Any] = {}
        self._local: dict[str, str] = {}
        self._constants = constants
        self._shared: dict[int, str] = {}
        lines = [f"def run({', '.join([*(self._value(n) for n in inputs), 'buffers'])}):"]
        last = last_uses(calls, outputs)
        for position, call in enumerate(calls):
            written = self._into(call, direct[position], placed) if position in direct else [self._line(call, placed)]
            lines += [f"    {line}" for line in written]
            dead = [
                self._local[n] for n in (*call.refs(), *call.outs) if last.get(n, -1) <= position and n in self._local
            ]
            if dead:
                lines.append(f"    del {', '.join(dict.fromkeys(dead))}")
                for name in [n for n in (*call.refs(), *call.outs) if last.get(n, -1) <= position]:
                    self._local.pop(name, None)
            if after is not None:
                lines.append(f"    {self._object(after, 'after')}()")
        returned = [
            f"{self._object(own_copy, 'copy')}({self._read(n)})" if k in copied else self._read(n)
            for k, n in enumerate(outputs)
        ]
        lines.append(f"    return [{', '.join(returned)}]")
        self.text = "\n".join(lines) + "\n"

    def compile(self) -> Any:
        """The function. The text holds only names made here; no user string reaches it."""
        scope = dict(self.globals)
        exec(compile(self.text, "<tpopt plan>", "exec"), scope)  # noqa: S102 - a straight list of calls, built above
        return scope["run"]

    def _value(self, name: str) -> str:
        plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
        local = f"v{len(self._local)}_{plain}"
        while local in self._local.values():
            local += "_"
        self._local[name] = local
        return local

    def _read(self, name: str) -> str:
        if name in self._local:
            return self._local[name]
        return self._object(self._constants[name], "w")

    def _object(self, value: Any, prefix: str) -> str:
        if id(value) not in self._shared:
            key = f"{prefix}{len(self.globals)}"
            self.globals[key], self._shared[id(value)] = value, key
        return self._shared[id(value)]

    def _argument(self, value: Any) -> str:
        if isinstance(value, Ref):
            return self._read(value.name)
        if isinstance(value, (list, tuple)) and any(isinstance(v, (Ref, list, tuple)) for v in value):
            return f"[{', '.join(self._argument(v) for v in value)}]"
        if value is None or isinstance(value, (bool, int, str)):
            return repr(value)
        return self._object(value, "c")

    def _into(self, call: Call, function: Callable[..., None], placed: Mapping[str, int]) -> list[str]:
        """The lines of a call that writes its results into tensors of ours."""
        assert call.into is not None
        args = [self._argument(a) for a in call.args]
        lines, targets = [], []
        for name, fresh in zip(call.outs, call.into.fresh(), strict=True):
            place = f"buffers[{placed[name]}]" if name in placed else f"{self._object(fresh, 'new')}()"
            targets.append(self._value(name))
            lines.append(f"{targets[-1]} = {place}")
        return [*lines, f"{self._object(function, 'f')}({', '.join([*args, *targets])})  # {call.label}"]

    def _line(self, call: Call, placed: Mapping[str, int]) -> str:
        args = [self._argument(a) for a in call.args] + [f"{k}={self._argument(v)}" for k, v in call.kwargs]
        buffer = placed.get(call.outs[0]) if call.single and call.outs else None
        if buffer is not None:
            args.append(f"out=buffers[{buffer}]")
        function = self._object(call.out_function if buffer is not None else call.function, "f")
        expression = f"{function}({', '.join(args)})  # {call.label}"
        if not call.outs:
            return expression
        targets = [self._value(o) for o in call.outs]
        left = targets[0] if call.single else f"[{', '.join(targets)}]"
        return f"{left} = {expression}"


def last_uses(calls: Sequence[Call], outputs: Sequence[str]) -> dict[str, int]:
    """The step after which each value is needed no more; outputs outlive all steps."""
    last: dict[str, int] = {}
    for position, call in enumerate(calls):
        for name in call.outs:
            last.setdefault(name, position)
        for name in call.refs():
            last[name] = position
    last.update(dict.fromkeys(outputs, len(calls)))
    return last


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that lies in row-major order."""
    strided = tensor.layout is torch.strided
    return tensor.clone(memory_format=torch.contiguous_format) if strided else tensor.clone()
