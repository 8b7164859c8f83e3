"""Random programs: their text reads back to them, names and orders do not matter, and three evaluators agree."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from programs import Made, random_program
from programs.change import shuffled

from tpopt.ir import Opaque
from tpopt.ir.aten import call, from_numpy
from tpopt.ir.canonical import canonical, structural_equal, structural_hash
from tpopt.ir.interpret import interpret
from tpopt.ir.parse import parse_program
from tpopt.ir.program import Array
from tpopt.ir.to_torch import to_torch
from tpopt.ir.walk import stage_reads

CHUNK = 50
QUICK = range(2)
FULL = range(2, 42)


def chunks(first: range, rest: range) -> list[object]:
    """Seeds by the chunk: a few by default, all of them as long rows."""
    return [*first, *(pytest.param(n, marks=pytest.mark.acceptance) for n in rest)]


def made(chunk: int) -> list[Made]:
    return [random_program(seed) for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK)]


def run_opaque(stage: Opaque, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """An opaque stage by torch, in double precision."""
    tensors = {t.name: torch.from_numpy(a) for t, a in zip(stage_reads(stage), arrays, strict=True)}
    return tuple(t.numpy() for t in call(stage, tensors, {}))


def assert_same(one: Made, actual: Sequence[Array], expected: Sequence[torch.Tensor]) -> None:
    for tensor, a, b in zip(one.program.outputs, actual, expected, strict=True):
        what = f"{tensor!r} of random_program({one.program.name.removeprefix('random')})"
        np.testing.assert_allclose(a, b.resolve_conj().numpy(), rtol=1e-7, atol=1e-7, strict=True, err_msg=what)


@pytest.mark.parametrize("chunk", chunks(QUICK, FULL))
def test_text_reads_back_to_the_same_terms(chunk: int):
    for one in made(chunk):
        text = str(one.program)
        again = parse_program(text)
        assert str(again) == text
        for part in ("inputs", "weights", "stages", "outputs", "aliases", "symbols"):
            assert getattr(again, part) == getattr(one.program, part)


@pytest.mark.parametrize("chunk", chunks(QUICK, FULL))
def test_the_interpreter_agrees_with_torch(chunk: int):
    for one in made(chunk):
        assert_same(one, interpret(one.program, one.inputs, opaque=run_opaque), one.torch())


@pytest.mark.parametrize("fast", [True, False], ids=["library", "einsum"])
@pytest.mark.parametrize("chunk", chunks(QUICK, FULL))
def test_the_torch_function_agrees_with_torch(chunk: int, fast: bool):
    for one in made(chunk):
        inputs = [from_numpy(a, t.dtype) for a, t in zip(one.inputs, one.program.inputs, strict=True)]
        outputs = to_torch(one.program, dtype=torch.float64, fast=fast)(*inputs)
        assert_same(one, [o.numpy() for o in outputs], one.torch())


@pytest.mark.parametrize("chunk", chunks(QUICK, range(2, 10)))
def test_names_and_orders_without_meaning_do_not_change_the_hash(chunk: int):
    for seed, one in enumerate(made(chunk)):
        other = shuffled(one.program, random.Random(seed)).validate()
        assert structural_hash(other) == structural_hash(one.program), one.program.name


@pytest.mark.parametrize("chunk", chunks(range(1), range(2, 10)))
def test_the_canonical_form_is_valid_computes_the_same_and_is_its_own(chunk: int):
    for one in made(chunk):
        form = canonical(one.program).validate()
        assert str(canonical(form)) == str(form)
        assert structural_equal(form, one.program)
        constants = {
            w.name: one.program.constants[v.name] for w, v in zip(form.weights, one.program.weights, strict=True)
        }
        assert_same(one, interpret(replace(form, constants=constants), one.inputs, opaque=run_opaque), one.torch())
