"""Programs and stages as text that :mod:`tpopt.ir.parse` reads back to the same terms."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tpopt.ir.dtypes import DType
from tpopt.ir.index import Atom, Index, Iter, Symbol, substitute, walk_atoms
from tpopt.ir.names import PLAIN, quoted
from tpopt.ir.program import Program
from tpopt.ir.stages import Attribute, Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.structure import DENSE, Parameter, Structure
from tpopt.ir.term_text import Texts, print_guard, print_iters, print_number, print_term
from tpopt.ir.terms import Scalar, Tensor
from tpopt.ir.walk import fresh_name

__all__ = ["print_program", "print_stage", "print_structure", "print_tensor", "print_term"]

INDENT = "  "


def print_program(program: Program) -> str:
    """The whole program, one statement a line, without a final newline."""
    return "\n".join(_program_lines(program))


def print_stage(stage: Stage) -> str:
    """One stage; several lines when it has named parts or nested programs."""
    outs = ", ".join(map(print_tensor, stage.outs)) or "none"
    match stage:
        case Compute():
            lets, bodies = _bodies(stage.bodies, stage.loops)
            return f"{outs} = L{print_iters(stage.loops)}{lets}{bodies}"
        case Scatter():
            return f"{outs} = {_scatter(stage)}"
        case Scan():
            lists = [("init", stage.init), ("xs", stage.xs), ("captures", stage.captures)]
            header = ", ".join(f"{name}={_names(tensors)}" for name, tensors in lists)
            return f"{outs} = scan{print_iters((stage.over,))}({header}) {_block(_program_lines(stage.body))}"
        case Cond():
            header = f"{quoted(stage.predicate.name)}, captures={_names(stage.captures)}"
            then, otherwise = (_block(_program_lines(p)) for p in (stage.then, stage.otherwise))
            return f"{outs} = cond({header}) {then} else {otherwise}"
        case Sort():
            flags = f"descending={print_attribute(stage.descending)}, stable={print_attribute(stage.stable)}"
            return f"{outs} = sort({quoted(stage.source.name)}, axis={stage.axis}, {flags})"
        case TopK():
            flags = f"largest={print_attribute(stage.largest)}, sorted={print_attribute(stage.sorted)}"
            return f"{outs} = topk({quoted(stage.source.name)}, k={stage.k}, axis={stage.axis}, {flags})"
        case Kernel():
            return f"{outs} = {_kernel(stage)}"
        case Opaque():
            arguments = [*map(print_attribute, stage.args), *_pairs(stage.kwargs)]
            effect = "effectful " if stage.effectful else ""
            return f"{outs} = {effect}opaque {_called(stage.target)}({', '.join(arguments)})"


def print_tensor(tensor: Tensor) -> str:
    """A declaration: ``name: dtype[shape]``, then layout and structure where they are not the default."""
    text = f"{quoted(tensor.name)}: {tensor.dtype}[{','.join(map(str, tensor.shape))}]"
    if tensor.layout:
        text += f" layout {json.dumps(tensor.layout)}"
    if tensor.structure is not DENSE:
        text += f" structure {print_structure(tensor.structure)}"
    return text


def print_structure(structure: Structure) -> str:
    """``kind`` or ``kind(parameters)``."""
    inner = ", ".join(map(_parameter, structure.parameters))
    return f"{structure.kind}({inner})" if structure.parameters else structure.kind


def print_attribute(value: Attribute) -> str:
    """An attribute: strings in double quotes, indices as ``@(…)``, tensors by name."""
    if value is None:
        return "none"
    if isinstance(value, (bool, int, float, complex)):
        return print_number(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return str(value)
    if isinstance(value, Index):
        return f"@({value})"
    if isinstance(value, Tensor):
        return quoted(value.name)
    return _tuple([print_attribute(v) for v in value])


def _program_lines(program: Program) -> list[str]:
    lines = [f"program {quoted(program.name)}({', '.join(map(print_tensor, program.inputs))})"]
    lines += [_symbol(s) for s in program.symbols]
    lines += [f"weight {print_tensor(w)}" for w in program.weights]
    for stage in program.stages:
        lines += print_stage(stage).split("\n")
    lines.append(" ".join(("return", ", ".join(quoted(o.name) for o in program.outputs))).rstrip())
    lines += [f"alias {a.output} -> {quoted(a.target)}" for a in program.aliases]
    return lines


def _symbol(symbol: Symbol) -> str:
    return f"symbol {symbol.text} in [{symbol.low}, {'inf' if symbol.high is None else symbol.high}]"


def _bodies(bodies: tuple[Scalar, ...], loops: tuple[Iter, ...]) -> tuple[str, str]:
    """Named parts, each on an indented line, and the bodies after them."""
    texts = Texts(bodies, loops, typed=True)
    lets = "".join(f"\n{INDENT}{let}" for let in texts.lets)
    return f"{lets}\n{INDENT}" if lets else " ", ", ".join(texts.bodies)


def _scatter(stage: Scatter) -> str:
    lets, value = _bodies((stage.value,), stage.loops)
    where = f"[{','.join(map(str, stage.at))}]"
    guard = "" if stage.guard is None else f" if {print_guard(stage.guard)}"
    closing = "\n}" if lets.strip() else " }"
    header = f"scatter {stage.op} into {quoted(stage.base.name)} L{print_iters(stage.loops)} at {where}{guard}"
    return f"{header} {{{lets}{value}{closing}"


def _kernel(stage: Kernel) -> str:
    names = _iterator_names(stage.parameters)
    called: dict[Atom, Iter] = {i: Iter(name, i.extent) for i, name in names.items()}
    parameters = tuple((k, _renamed(v, called)) for k, v in stage.parameters)
    arguments = [*(quoted(t.name) for t in stage.reads), *_pairs(parameters)]
    bound = [f"{name}={i.text}:{i.extent}" if name != i.name else f"{i.text}:{i.extent}" for i, name in names.items()]
    over = f"[{','.join(bound)}]" if bound else ""
    text = f"kernel {_called(stage.implementation)}{over}({', '.join(arguments)})"
    if stage.layouts:
        text += f" layouts [{', '.join(map(json.dumps, stage.layouts))}]"
    if stage.defines:
        text += f" defines {_block([line for s in stage.defines for line in print_stage(s).split(chr(10))])}"
    return text


def _iterator_names(parameters: tuple[tuple[str, Attribute], ...]) -> dict[Iter, str]:
    """The iterators that parameters speak of, in the order of their appearance, each under a name of its own here."""
    found: dict[Iter, str] = {}
    pending: list[Attribute] = [v for _, v in reversed(parameters)]
    while pending:
        value = pending.pop()
        if isinstance(value, tuple):
            pending += reversed(value)
        elif isinstance(value, Index):
            for atom in walk_atoms(value):
                if isinstance(atom, Iter) and atom not in found:
                    found[atom] = fresh_name(atom.name, dict.fromkeys(found.values()))
    return found


def _renamed(value: Attribute, called: Mapping[Atom, Iter]) -> Attribute:
    if isinstance(value, tuple):
        return tuple(_renamed(v, called) for v in value)
    return substitute(value, dict(called)) if isinstance(value, Index) else value


def _block(lines: list[str]) -> str:
    return "\n".join(("{", *(INDENT + line for line in lines), "}"))


def _called(name: str) -> str:
    """A target or an implementation: plain where it is a dotted name, else a string."""
    return name if PLAIN.fullmatch(name) else json.dumps(name)


def _names(tensors: tuple[Tensor, ...]) -> str:
    return f"[{', '.join(quoted(t.name) for t in tensors)}]"


def _pairs(pairs: tuple[tuple[str, Attribute], ...]) -> list[str]:
    return [f"{quoted(k)}={print_attribute(v)}" for k, v in pairs]


def _tuple(parts: list[str]) -> str:
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _parameter(value: Parameter) -> str:
    if isinstance(value, Structure):
        return print_structure(value)
    if isinstance(value, tuple):
        return _tuple([_parameter(v) for v in value])
    return json.dumps(value) if isinstance(value, str) else print_number(value)
