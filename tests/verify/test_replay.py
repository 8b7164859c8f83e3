"""The checker of certificates: it accepts what is derived and catches every planted fault."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
from support.derivations import derived

from tpopt.errors import TpoptError
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program
from tpopt.ir.program import Program
from tpopt.rewrite.certificate import Certificate
from tpopt.verify.replay import replay

SOURCES = (
    "conv_3x3", "conv_transpose_k4", "conv_transpose_9x9", "dilated_stack", "dilated_band", "gaunt", "lora",
    "small_sums", "cp_spectral", "matrix_chain", "linear_attention", "clebsch_gordan", "self_product",
)  # fmt: skip


def faults(text: str, chance: random.Random) -> list[str]:
    """The program with one fault planted: an offset or bound moved by one, axes swapped, a factor or a guard lost."""
    found = [
        _changed(text, match, str(int(match.group()) + step))
        for match in re.finditer(r"(?<=[+\-<\[, ])\d+(?= <|\b)", text)
        if not re.search(r"(:|f32\[|i64\[|bool\[)[\d,]*$", text[: match.start()])
        for step in (-1, 1)
    ]
    swapped = re.finditer(r"\[(\w+),(\w+)([\],])", text)
    found += [_changed(text, m, f"[{m.group(2)},{m.group(1)}{m.group(3)}") for m in swapped]
    found += [_changed(text, m, "") for m in re.finditer(r"[\w.]+\[[^\[\]]*\] \* ", text)]
    guarded = re.finditer(r"select\([^()]*, ([\w.]+\[[^\]]*\]), 0\.0\)", text)
    found += [_changed(text, m, m.group(1)) for m in guarded]
    chance.shuffle(found)
    return found


def _changed(text: str, match: re.Match[str], to: str) -> str:
    return text[: match.start()] + to + text[match.end() :]


def value(program: Program, seed: int) -> list[np.ndarray] | None:
    """Outputs on random numbers; ``None`` where the program cannot be evaluated."""
    chance = np.random.default_rng(seed)
    arrays = {t.name: chance.random(tuple(map(int, t.shape))) for t in sorted(program.inputs, key=lambda t: t.name)}
    weights = {}
    for weight in sorted(program.weights, key=lambda t: t.name):
        stored = program.constants.get(weight.name)
        own = np.random.default_rng([seed, *weight.name.encode()])
        weights[weight.name] = own.random(tuple(map(int, weight.shape))).astype("f4") if stored is None else stored
    own_inputs = {
        t.name: np.random.default_rng([seed, *t.name.encode()]).random(arrays[t.name].shape).astype("f4")
        for t in program.inputs
    }
    try:
        return [np.asarray(v) for v in interpret(replace(program, constants=weights), own_inputs)]
    except (TpoptError, IndexError, ValueError):
        return None


def is_another(one: Program, other: Program) -> bool:
    """Whether two programs differ, by floating-point evaluation on three sets of numbers: apart from the checker."""
    for seed in range(3):
        a, b = value(one, seed), value(other, seed)
        if b is None or any(
            x.shape != y.shape or not np.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in zip(a or [], b, strict=True)
        ):
            return True
    return False


def mutants(name: str, count: int) -> list[tuple[Certificate, Certificate]]:
    """Certificates with one fault in the last program, that computes something else; beside the right ones."""
    found: list[tuple[Certificate, Certificate]] = []
    chance = random.Random(name)
    for derivation in derived(name):
        right = derivation.certificate()
        original = _parsed(right.original, right)
        for text in faults(right.links[-1].program, chance)[:count]:
            wrong = replace(right, links=(*right.links[:-1], replace(right.links[-1], program=text)))
            try:
                program = _parsed(text, right)
            except TpoptError:
                continue
            if is_another(original, program):
                found.append((right, wrong))
    return found


def _parsed(text: str, certificate: Certificate) -> Program:
    program = parse_program(text)
    tables = {w.name: certificate.tables[w.name] for w in program.weights if w.name in certificate.tables}
    return replace(program, constants=tables).validate()


@pytest.mark.acceptance
def test_three_hundred_planted_faults_are_all_caught():
    planted = [pair for name in SOURCES for pair in mutants(name, 14)]
    missed = [wrong.links[-1].program for _, wrong in planted if replay(wrong).passed]
    assert len(planted) >= 300
    assert missed == []


@pytest.mark.parametrize("name", ["conv_3x3", "dilated_band", "lora"])
def test_planted_faults_are_caught(name: str):
    planted = mutants(name, 5)
    assert len(planted) >= 5
    assert [wrong for _, wrong in planted if replay(wrong).passed] == []


def test_a_fault_in_a_table_is_caught():
    right = next(d for d in derived("gaunt") if "SparseConstants" in d.laws).certificate()
    name = next(n for n in right.tables if n.endswith(".places"))
    moved = right.tables[name].copy()
    moved.flat[0] = (moved.flat[0] + 1) % 9
    assert not replay(replace(right, tables={**right.tables, name: moved})).passed


def test_another_output_or_an_unknown_input_is_refused_by_name():
    right = derived("matrix_chain")[0].certificate()
    renamed = right.links[-1].program.replace("inputs_2", "other")
    (verdict,) = replay(replace(right, links=(replace(right.links[-1], program=renamed),))).steps
    assert verdict.reason == "other: f32[64,2] is neither an input of the original nor in a table"
