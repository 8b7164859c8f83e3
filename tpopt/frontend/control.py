"""Control flow that export keeps: conditions and loops of known length as Cond and Scan stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from tpopt.errors import UnsupportedModel
from tpopt.frontend.context import Nested
from tpopt.frontend.sources import origin_of
from tpopt.ir import Cond, DType, Iter, Program, Scan, Size, Stage, Tensor, guard, index, select, size
from tpopt.ir.walk import stage_reads

if TYPE_CHECKING:
    from tpopt.frontend.translate import Translation, Value

Modules = Mapping[str, Any]


def translate_control(translation: Translation, node: fx.Node, env: dict[fx.Node, Value], modules: Modules) -> Value:
    """Translates a higher-order operator. Raises :class:`UnsupportedModel` for those without algebra."""
    from tpopt.frontend.translate import arguments

    name = str(node.target)
    args, _ = arguments(node, env)
    if name in _INLINED:
        return _inline(translation, _INLINED[name](args), modules)
    if name not in _FORMS:
        raise UnsupportedModel(
            f"{node.name} is a {name}, which has no algebra{_why(name)} ({'; '.join(origin_of(node).lines)})"
        )
    call = Call(translation, node, modules)
    outs, _ = translation.declare(node)
    _FORMS[name](call, args, tuple(o for o in outs if o is not None))
    return outs


def _why(name: str) -> str:
    return ": how often it repeats depends on data" if name == "while_loop" else ""


@dataclass(frozen=True)
class Body:
    """A sub-graph twice over the same names: as algebra and as original calls."""

    algebra: list[Stage]
    original: list[Stage]
    outputs: tuple[Tensor, ...]

    def captures(self, given: Sequence[Tensor]) -> dict[Tensor, None]:
        """Tensors of the surrounding program that either form reads, in order of appearance."""
        found: dict[Tensor, None] = {}
        for stages in (self.algebra, self.original):
            own = {*given, *(o for s in stages for o in s.outs)}
            read = (*(t for s in stages for t in stage_reads(s)), *self.outputs)
            found.update(dict.fromkeys(t for t in read if t not in own))
        return found


@dataclass(frozen=True)
class Call:
    """One higher-order operator being translated."""

    translation: Translation
    node: fx.Node
    modules: Modules

    def body(self, module: Any, values: Sequence[Value]) -> Body:
        """Translates a sub-graph applied to ``values``."""
        from tpopt.frontend.translate import Translation

        outer = self.translation
        inner = Translation(Nested(outer.builder), outer.symbols, outer.constants, [], outer.origins, outer.reasons)
        inner.own = outer.own
        result = _run(inner, module, values)
        return Body(inner.builder.stages, inner.originals, tuple(map(_tensor, result)))

    def fresh(self, what: str, shape: Sequence[Size], dtype: DType) -> Tensor:
        """A new tensor named after the operator."""
        return Tensor(self.translation.builder.name(f"{self.node.name}.{what}"), tuple(shape), dtype)

    def add(self, algebra: Stage, original: Stage) -> None:
        """Appends the stage to both programs."""
        self.translation.builder.add(algebra)
        self.translation.originals.append(original)
        self.translation.origins.update(dict.fromkeys((o.name for o in algebra.outs), origin_of(self.node)))

    def shared(self, stage: Stage) -> Tensor:
        """Appends one Compute to both programs; returns its result."""
        self.add(stage, stage)
        return stage.outs[0]


def _tensor(value: Value) -> Tensor:
    if isinstance(value, Tensor):
        return value
    raise UnsupportedModel(f"a branch or loop body yields {value!r}, which is no tensor; return a tensor made from it")


def _run(translation: Translation, module: Any, values: Sequence[Value]) -> list[Value]:
    places = [n for n in module.graph.nodes if n.op == "placeholder"]
    env = dict(zip(places, values, strict=True))
    result = translation.run(module.graph, env, dict(module.named_children()))
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _inline(translation: Translation, found: tuple[Any, Sequence[Value]], _modules: Modules) -> Value:
    module, values = found
    return tuple(_run(translation, module, values))


def _without_grad_mode(args: Sequence[Value]) -> tuple[Any, Sequence[Value]]:
    return args[1], args[2:]


def _without_autocast(args: Sequence[Value]) -> tuple[Any, Sequence[Value]]:
    if args[2]:
        raise UnsupportedModel(
            "autocast is on inside the exported graph; export it with decompositions, which write its casts down"
        )
    return args[4], args[5:]


_INLINED: Mapping[str, Callable[[Sequence[Value]], tuple[Any, Sequence[Value]]]] = {
    "wrap_with_set_grad_enabled": _without_grad_mode,
    "wrap_with_autocast": _without_autocast,
}


def _program(name: str, inputs: Sequence[Tensor], stages: Sequence[Stage], outputs: Sequence[Tensor]) -> Program:
    return Program(name, tuple(inputs), (), tuple(stages), tuple(outputs))


def _cond(call: Call, args: Sequence[Value], outs: tuple[Tensor, ...]) -> None:
    predicate, then, otherwise, operands = args
    if not isinstance(predicate, Tensor):
        truth = call.node.args[0].meta["val"]  # type: ignore[union-attr]
        predicate = call.shared(
            _compute(call.fresh("predicate", (), DType.BOOL), lambda: call.translation.symbols.truth(truth))
        )
    bodies = [call.body(m, operands) for m in (then, otherwise)]
    captures = tuple(dict.fromkeys(t for b in bodies for t in b.captures(())))
    if predicate.rank:
        whole: Tensor = predicate
        predicate = call.shared(_compute(call.fresh("predicate", (), whole.dtype), lambda: whole.at([0] * whole.rank)))

    def stage(form: Callable[[Body], list[Stage]]) -> Cond:
        yes, no = (
            _program(n, captures, form(b), b.outputs) for n, b in zip(("then", "otherwise"), bodies, strict=True)
        )
        return Cond(outs, predicate, captures, yes, no)

    call.add(stage(lambda b: b.algebra), stage(lambda b: b.original))


def _compute(out: Tensor, body: Callable[..., Any]) -> Stage:
    from tpopt.ir import Compute, iters

    loops = iters("i", out.shape)
    return Compute((out,), loops, (body(*loops),))


def _loop(
    call: Call, module: Any, init: Sequence[Tensor], xs: Sequence[Tensor], more: Sequence[Value], outs: Sequence[Tensor]
) -> None:
    """A Scan of ``module(carries, slices, more)``; ``outs`` may ask for the carries of every step too."""
    carries = [call.fresh("carry", t.shape, t.dtype) for t in init]
    slices = [call.fresh("slice", t.shape[1:], t.dtype) for t in xs]
    body = call.body(module, [*carries, *slices, *more])
    captures = tuple(body.captures([*carries, *slices]))
    results = body.outputs if len(body.outputs) == len(outs) else (*body.outputs, *body.outputs)
    over = Iter(call.fresh("step", (), DType.I64).name, xs[0].shape[0])

    def stage(stages: list[Stage]) -> Scan:
        program = _program("body", (*carries, *slices, *captures), stages, results)
        return Scan(tuple(outs), tuple(init), tuple(xs), captures, over, program)

    call.add(stage(body.algebra), stage(body.original))


def _scan(call: Call, args: Sequence[Value], outs: tuple[Tensor, ...]) -> None:
    module, init, xs, more = args
    _loop(call, module, _tensors(call, init), _scanned(call, xs), more, outs)


def _map(call: Call, args: Sequence[Value], outs: tuple[Tensor, ...]) -> None:
    module, xs, more = args
    _loop(call, module, [], _scanned(call, xs), more, outs)


def _associative_scan(call: Call, args: Sequence[Value], outs: tuple[Tensor, ...]) -> None:
    """The first element starts; the body combines what has run so far with the next."""
    module, given, more = args[0], args[1], args[2] if len(args) > 2 else ()
    xs = _scanned(call, given)
    rest = size(index(xs[0].shape[0]) - 1)
    first = [
        call.shared(_compute(call.fresh("first", x.shape[1:], x.dtype), lambda *i, x=x: x.at([0, *i]))) for x in xs
    ]
    following = [
        call.shared(
            _compute(call.fresh("rest", (rest, *x.shape[1:]), x.dtype), lambda t, *i, x=x: x.at([index(t) + 1, *i]))
        )
        for x in xs
    ]
    last = tuple(call.fresh("last", x.shape[1:], x.dtype) for x in xs)
    behind = tuple(call.fresh("behind", (rest, *x.shape[1:]), x.dtype) for x in xs)
    _loop(call, module, first, following, more, (*last, *behind))
    for out, one, many in zip(outs, first, behind, strict=True):
        call.shared(
            _compute(out, lambda t, *i, o=one, m=many: select(guard((0, t, 1)), o.at(i), m.at([index(t) - 1, *i])))
        )


def _tensors(call: Call, values: Sequence[Value]) -> list[Tensor]:
    if not all(isinstance(v, Tensor) for v in values):
        raise UnsupportedModel(f"{call.node.name} carries or scans a number; pass it as a tensor")
    return list(values)


def _scanned(call: Call, values: Sequence[Value]) -> list[Tensor]:
    if not values:
        raise UnsupportedModel(f"{call.node.name} scans nothing, so nothing says how often it repeats")
    return _tensors(call, values)


_FORMS: Mapping[str, Callable[[Call, Sequence[Value], tuple[Tensor, ...]], None]] = {
    "cond": _cond,
    "scan": _scan,
    "map_impl": _map,
    "associative_scan": _associative_scan,
}
