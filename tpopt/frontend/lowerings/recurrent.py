"""Recurrent layers as Scan stages: what does not depend on the state is multiplied before the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context
from tpopt.frontend.numerics import products, wide
from tpopt.frontend.registry import Lowerings, NoAlgebra
from tpopt.ir import Builder, DType, Iter, Program, Scalar, Scan, Size, Tensor, apply, cast, guard, index, select
from tpopt.ir.build import tensor

lowers = Lowerings()
Gate = Callable[[int], Scalar]
Step = Callable[[Gate, Gate, Scalar, "Scalar | None"], "tuple[Scalar, Scalar | None]"]
"""From the input's and the state's share of each gate, the hidden value and the cell: their next values."""


def _lstm(x: Gate, h: Gate, _hidden: Scalar, cell: Scalar | None) -> tuple[Scalar, Scalar | None]:
    assert cell is not None
    enter, keep, new, out = (apply("add", x(g), h(g)) for g in range(4))
    kept = apply("mul", apply("sigmoid", keep), cell)
    following = apply("add", kept, apply("mul", apply("sigmoid", enter), apply("tanh", new)))
    return apply("mul", apply("sigmoid", out), apply("tanh", following)), following


def _gru(x: Gate, h: Gate, hidden: Scalar, _cell: Scalar | None) -> tuple[Scalar, None]:
    reset, update = (apply("sigmoid", apply("add", x(g), h(g))) for g in range(2))
    new = apply("tanh", apply("add", x(2), apply("mul", reset, h(2))))
    return apply("add", apply("mul", apply("sub", 1, update), new), apply("mul", update, hidden)), None


def _tanh(x: Gate, h: Gate, _hidden: Scalar, _cell: Scalar | None) -> tuple[Scalar, None]:
    return apply("tanh", apply("add", x(0), h(0))), None


def _relu(x: Gate, h: Gate, _hidden: Scalar, _cell: Scalar | None) -> tuple[Scalar, None]:
    return apply("max", apply("add", x(0), h(0)), 0), None


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell: how many gates it has, and what a step does with them."""

    gates: int
    step: Step


LSTM, GRU, TANH, RELU = Cell(4, _lstm), Cell(3, _gru), Cell(1, _tanh), Cell(1, _relu)


@dataclass(frozen=True)
class Layer:
    """One direction of one layer: its kind and its weights."""

    cell: Cell
    ih: Tensor
    hh: Tensor
    biases: tuple[Tensor, ...]
    projection: Tensor | None
    backward: bool

    def gates(self, ctx: Context, x: Tensor) -> Tensor:
        """``sum[k]{x[t,n,k] * w[g,k]} + b[g]`` for every step, the last step first when ``backward``."""
        k, kind = Iter("k", x.shape[2]), wide(x.dtype)

        def body(t: Iter, n: Iter, g: Iter) -> Scalar:
            at = index(x.shape[0]) - 1 - t if self.backward else index(t)
            value = products(kind, (k,), x[at, n, k], self.ih[g, k])
            return apply("add", value, cast(self.biases[0][g], kind)) if self.biases else value

        return ctx.compute([x.shape[0], x.shape[1], self.ih.shape[0]], body, "gates")

    def loop(
        self, ctx: Context, gates: Tensor, hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The Scan: the hidden state of every step, the last one, and the last cell."""
        init = (hidden,) if cell is None else (hidden, cell)
        captures = (self.hh, *self.biases[1:], *(() if self.projection is None else (self.projection,)))
        last = tuple(ctx.fresh(t.shape, t.dtype, "last") for t in init)
        every = ctx.fresh((gates.shape[0], *hidden.shape), hidden.dtype, "hidden")
        over = Iter("t", gates.shape[0])
        ctx.add(Scan((*last, every), init, (gates,), captures, over, self._body(init, gates, captures)))
        return every, last[0], None if cell is None else last[1]

    def _body(self, init: Sequence[Tensor], gates: Tensor, captures: Sequence[Tensor]) -> Program:
        b, kind = Builder(), wide(init[0].dtype)
        hidden, *cells = [tensor(b.name(n), t.shape, t.dtype) for n, t in zip(("hidden", "cell"), init, strict=False)]
        given = tensor(b.name("gates"), gates.shape[1:], gates.dtype)
        inner = [tensor(b.name(n), t.shape, t.dtype) for n, t in zip(self._names(), captures, strict=True)]
        k, width = Iter("k", hidden.shape[1]), index(self.ih.shape[0]) // self.cell.gates

        def state_gates(n: Iter, g: Iter) -> Scalar:
            value = products(kind, (k,), hidden[n, k], inner[0][g, k])
            return apply("add", value, cast(inner[1][g], kind)) if self.biases else value

        own = b.compute("state_gates", given.shape, state_gates)

        def following(n: Iter, j: Iter) -> list[Scalar]:
            old = cast(hidden[n, j], kind) if self.projection is None else cast(own[n, j], kind)
            cell = cast(cells[0][n, j], kind) if cells else None
            value, new = self.cell.step(lambda g: given[n, width * g + j], lambda g: own[n, width * g + j], old, cell)
            return [cast(v, hidden.dtype) for v in (value, new) if v is not None]

        outs = b.compute_many("next", [given.shape[0], width], following)
        output = outs[0] if self.projection is None else self._projected(b, outs[0], inner[-1], kind)
        return Program("step", (hidden, *cells, given, *inner), (), tuple(b.stages), (output, *outs[1:], output))

    def _projected(self, b: Builder, value: Tensor, weight: Tensor, kind: DType) -> Tensor:
        k = Iter("k", value.shape[1])
        shape = (value.shape[0], weight.shape[0])
        return b.compute(
            "projected", shape, lambda n, j: cast(products(kind, (k,), value[n, k], weight[j, k]), value.dtype)
        )

    def _names(self) -> list[str]:
        return [
            "weight",
            *("bias" for _ in self.biases[1:]),
            *("projection" for _ in (self.projection,) if self.projection is not None),
        ]


@dataclass(frozen=True)
class Stack:
    """All layers of a call; ``params`` as torch lists them."""

    ctx: Context
    cell: Cell
    params: Sequence[Tensor]
    biased: bool
    layers: int
    both: bool

    def layer(self, number: int, backward: bool) -> Layer:
        """Weights of one direction of one layer."""
        directions = 2 if self.both else 1
        each = len(self.params) // (self.layers * directions)
        own = self.params[(number * directions + int(backward)) * each :][:each]
        biases = tuple(own[2:4]) if self.biased else ()
        projection = own[-1] if each in (3, 5) else None
        return Layer(self.cell, own[0], own[1], biases, projection, backward)

    def run(self, x: Tensor, hidden: Tensor, cell: Tensor | None) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Outputs of every step (time first), and the last states of every layer and direction."""
        hiddens: list[Tensor] = []
        cells: list[Tensor] = []
        for number in range(self.layers):
            outputs: list[Tensor] = []
            for backward in (False, True)[: 1 + int(self.both)]:
                layer, place = self.layer(number, backward), len(hiddens)
                first = _slice(self.ctx, hidden, place)
                memory = None if cell is None else _slice(self.ctx, cell, place)
                every, last, last_cell = layer.loop(self.ctx, layer.gates(self.ctx, x), first, memory)
                outputs.append(every)
                hiddens.append(last)
                cells += [] if last_cell is None else [last_cell]
            x = _joined(self.ctx, outputs)
        return x, hiddens, cells


def _slice(ctx: Context, states: Tensor, place: int) -> Tensor:
    return ctx.compute(states.shape[1:], lambda n, j: states[place, n, j], "initial")


def _joined(ctx: Context, outputs: list[Tensor]) -> Tensor:
    """The two directions side by side, the second in order of time again."""
    if len(outputs) == 1:
        return outputs[0]
    there, back = outputs
    time, batch, width = there.shape

    def body(t: Iter, n: Iter, j: Iter) -> Scalar:
        return select(guard((0, j, width)), there[t, n, j], back[index(time) - 1 - t, n, index(j) - width])

    return ctx.compute([time, batch, index(width) * 2], body, "both")


def _stacked(ctx: Context, k: int, states: list[Tensor]) -> Tensor | None:
    out = ctx.outs[k] if ctx.used[k] else None
    if out is None:
        return None

    def body(l: Iter, n: Iter, j: Iter) -> Scalar:
        value: Scalar = states[-1][n, j]
        for place in range(len(states) - 2, -1, -1):
            value = select(guard((0, l, place + 1)), states[place][n, j], value)
        return value

    return ctx.compute(out.shape, body)


def _recurrent(
    ctx: Context,
    cell: Cell,
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    biased: bool,
    layers: int,
    dropout: float,
    train: bool,
    both: bool,
    batch_first: bool,
) -> tuple[Tensor | None, ...]:
    if dropout and train and layers > 1:
        raise NoAlgebra(f"{ctx.target} drops at random between layers (dropout={dropout} while training)")
    source = (
        ctx.compute([x.shape[1], x.shape[0], x.shape[2]], lambda t, n, k: x[n, t, k], "steps") if batch_first else x
    )
    stack = Stack(ctx, cell, params, biased, layers, both)
    found, hiddens, cells = stack.run(source, state[0], state[1] if len(state) > 1 else None)
    outer = [0, 1] if not batch_first else [1, 0]
    shape: list[Size] = [found.shape[a] for a in outer] + [found.shape[2]]
    result = found if not batch_first else ctx.compute(shape, lambda n, t, j: found[t, n, j])
    rest = [_stacked(ctx, 1, hiddens)] + ([_stacked(ctx, 2, cells)] if cells else [])
    return (result, *rest)


@lowers("aten.lstm.input")
def lstm(
    ctx: Context, x: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], *settings: object
) -> tuple[Tensor | None, ...]:
    """Long short-term memory: any number of layers, both directions, projections."""
    return _recurrent(ctx, LSTM, x, state, params, *settings)  # type: ignore[arg-type]


@lowers("aten.gru.input")
def gru(
    ctx: Context, x: Tensor, state: Tensor, params: Sequence[Tensor], *settings: object
) -> tuple[Tensor | None, ...]:
    """Gated recurrent units."""
    return _recurrent(ctx, GRU, x, [state], params, *settings)  # type: ignore[arg-type]


@lowers("aten.rnn_tanh.input")
def rnn_tanh(
    ctx: Context, x: Tensor, state: Tensor, params: Sequence[Tensor], *settings: object
) -> tuple[Tensor | None, ...]:
    """Elman's network."""
    return _recurrent(ctx, TANH, x, [state], params, *settings)  # type: ignore[arg-type]


@lowers("aten.rnn_relu.input")
def rnn_relu(
    ctx: Context, x: Tensor, state: Tensor, params: Sequence[Tensor], *settings: object
) -> tuple[Tensor | None, ...]:
    """The same with a rectifier."""
    return _recurrent(ctx, RELU, x, [state], params, *settings)  # type: ignore[arg-type]
