"""Every pass on random programs: the result is valid, keeps the contract, and has the same values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from programs import random_program
from support.rewriting import run, valued

from tpopt.ir import Opaque, Program, index
from tpopt.ir.aten import call
from tpopt.ir.interpret import interpret
from tpopt.ir.program import Array
from tpopt.ir.walk import stage_reads
from tpopt.passes import fold_constants
from tpopt.passes.algebra import constants
from tpopt.passes.fold_affine import FoldAffine
from tpopt.passes.fold_constants import FoldConstants
from tpopt.passes.fuse_pointwise import FusePointwise
from tpopt.passes.inline_views import InlineViews
from tpopt.passes.pipelines import CLEANUP, DEFAULT
from tpopt.rewrite import Pass, Pipeline

CHUNK = 20
CHUNKS = [0, *(pytest.param(n, marks=pytest.mark.acceptance) for n in range(1, 25))]
PIPELINES: dict[str, tuple[Pass, ...]] = {
    "cleanup": CLEANUP,
    "views": (InlineViews(divisions=True, padding=True),),
    "fusion": (FusePointwise(),),
    "all": (*DEFAULT, InlineViews(divisions=True, padding=True), FusePointwise(), *CLEANUP),
}


@pytest.fixture
def _unrounded(monkeypatch: pytest.MonkeyPatch):
    """Constants keep all digits: what is left to differ is the algebra."""
    evaluate = constants.evaluate
    monkeypatch.setattr(constants, "evaluate", lambda f, v, d: None if d.is_float else evaluate(f, v, d))
    monkeypatch.setattr(constants, "round_to", lambda value, dtype: value)
    monkeypatch.setattr(fold_constants, "stored", lambda value, tensor: value)


def run_opaque(stage: Opaque, arrays: Sequence[Array]) -> tuple[Array, ...]:
    tensors = {t.name: torch.from_numpy(a) for t, a in zip(stage_reads(stage), arrays, strict=True)}
    return tuple(t.numpy() for t in call(stage, tensors, {}))


def variants(seed: int) -> Iterator[tuple[Program, list[Array]]]:
    """A random program, then the same with most inputs made weights, so that there is something to fold."""
    made = random_program(seed, 6 if seed % 2 else 14)
    program = made.program
    yield program, list(made.inputs)
    targets = {a.target for a in program.aliases}
    static = [all(isinstance(e, int) for e in t.shape) and t.name not in targets for t in program.inputs]
    for kept in (1, 0):
        fixed = [k for k, s in enumerate(static) if s][kept:]
        inputs = tuple(t for k, t in enumerate(program.inputs) if k not in fixed)
        known = {a for t in inputs for e in t.shape for a in index(e).atoms}
        if fixed and all(s in known for s in program.symbols):
            weights = (*program.weights, *(program.inputs[k] for k in fixed))
            values = {**program.constants, **{program.inputs[k].name: made.inputs[k] for k in fixed}}
            given = [a for k, a in enumerate(made.inputs) if k not in fixed]
            yield replace(program, inputs=inputs, weights=weights, constants=values), given


@pytest.mark.usefixtures("_unrounded")
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_values_survive(chunk: int, pipeline: str):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        for program, inputs in variants(seed):
            after = Pipeline(PIPELINES[pipeline]).run(program)
            pairs = zip(*(interpret(p, inputs, opaque=run_opaque) for p in (program, after)), strict=True)
            for tensor, (old, new) in zip(program.outputs, pairs, strict=True):
                what = f"{tensor.name} of random_program({seed}) with {len(inputs)} inputs"
                np.testing.assert_allclose(new, old, rtol=1e-7, atol=1e-7, strict=True, err_msg=what)


def affine_text(rng: random.Random, depth: int) -> str:
    """An affine function of ``y[n,o,i]`` by weights along channels, in random spelling."""
    text = "y[n,o,i]"
    for _ in range(depth):
        other = rng.choice(["s[o]", "m[o]", "(s[o] + m[o])", "2.5", "sqrt(m[o])", "-s[o]"])
        forms = ["{y} + {w}", "{w} + {y}", "{y} - {w}", "{w} - {y}", "{y} * {w}", "{w} * {y}", "{y} / {w}", "-{y}"]
        text = f"({rng.choice(forms).format(y=text, w=other)})"
    return text


@pytest.mark.parametrize("seed", range(20))
def test_affine_maps_of_convolutions_always_fold(seed: int):
    rng = random.Random(seed)
    stride, tail = rng.choice([1, 2]), rng.choice(["", " + c[o]"])
    extent = (9 - 3) // stride + 1
    before = valued(
        f"""program p(x: f32[2,3,9])
        weight w: f32[4,3,3]
        weight c: f32[4]
        weight s: f32[4]
        weight m: f32[4]
        y: f32[2,4,{extent}] = L[n:2,o:4,i:{extent}] sum[k:3,r:3]{{ x[n,k,{stride}*i+r] * w[o,k,r] }}{tail}
        z: f32[2,4,{extent}] = L[n:2,o:4,i:{extent}] {affine_text(rng, rng.randint(1, 5))}
        return z""",
        seed,
    )
    shifted = {n: v + np.float32(0.5) for n, v in before.constants.items()}
    outcome = run((FoldAffine(), FoldConstants()), replace(before, constants=shifted))
    assert [s.outs[0].name for s in outcome.after.stages] == ["z"]
