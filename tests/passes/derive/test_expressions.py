"""Expressions whose best form is known: found without hints, at or below the work that is known, and proved."""

from __future__ import annotations

import pytest
import torch
from support.derivations import algebra, derived, explored, explored_model
from support.programs import permutations
from zoo.mace import SymmetricContraction

from tpopt.ir import Compute, DType, Kernel, Program, Tensor
from tpopt.ir.work import work
from tpopt.passes.contraction.cost import MACS
from tpopt.passes.derive.derivation import Derivation, folded
from tpopt.passes.derive.explore import Explorer
from tpopt.passes.derive.region import opened
from tpopt.rewrite import Trace
from tpopt.verify.replay import replay

BARS: dict[str, tuple[str, int]] = {
    # by name: the law that leads there, and the multiply-adds of the whole expression after it
    "conv_3x3": ("SplitSummation", 2 * 7 * 7 * 5 * 3 * 9),
    "conv_transpose_k4": ("SplitSummation", 2_304),
    "conv_transpose_9x9": ("SplitSummation", 20_736),
    "conv_5x5": ("SplitSummation", 9 * 9 * 3 * 25),
    "dilated_stack": ("SplitPhases", 3 * 6 * 10 * 4 * 4 * 9),
    "dilated_band": ("SplitPhases", 2 * 24 * 7 * 5),
    "matrix_chain": ("OrderProducts", 16_384),
    "linear_attention": ("OrderProducts", 16_384),
    "gaunt": ("SparseConstants", 5 * 166),
    "clebsch_gordan": ("OrderProducts", 81 * 9 + 7 * 81),
    "cp_spectral": ("OrderProducts", 792),
    "spectral_corners": ("JoinSums", 152_064),
    "lora": ("MergeTerms", 4 * 16 * 16),
    "small_sums": ("CollapseDeltas", 13 * 13 + 13 + 13 + 13 * 13),
    "vector_first": ("OrderProducts", 175),
    "self_product": ("SymmetricPowers", 5 * 4 * 10),
    "point_features": ("NarrowSums", 2 * 9 * 3 * 4 + 2 * 8 * 4),
    "pair_features": ("NarrowSums", 6 * 6 * 2 * 4 + 2 * 6 * 5 * 4),
}


def macs(derivation: Derivation) -> int:
    return work(folded(derivation.result)).macs


@pytest.mark.parametrize("name", BARS)
def test_the_known_form_is_found_and_every_step_of_it_holds(name: str):
    law, most = BARS[name]
    best = min((d for d in derived(name) if law in d.laws), key=macs)
    assert macs(best) <= most
    assert replay(best.certificate()).passed


@pytest.mark.parametrize("name", BARS)
def test_everything_that_is_derived_holds(name: str):
    refuted = {(d.name, d.laws) for d in derived(name) if not replay(d.certificate()).passed}
    assert refuted == set()


def test_a_convolution_becomes_one_matrix_product_and_offset_adds():
    (found,) = (d for d in derived("conv_3x3") if "SplitSummation" in d.laws)
    products, adds = found.result.stages
    assert str(products.outs[0].shape) == "(3, 3, 3, 2, 7, 7)"
    assert (work(found.result).stages[1].macs, permutations(adds)) == (0, 0)


def test_a_transposed_convolution_of_one_pixel_is_one_matrix_product_as_it_is():
    products, view = algebra("conv_transpose_pixel").stages
    assert (work(algebra("conv_transpose_pixel")).macs, permutations(view), permutations(products)) == (1_280, 1, 0)


@pytest.mark.parametrize(("name", "left"), [("dilated_stack", 2), ("dilated_band", 3)])
def test_layers_in_phases_leave_one_permutation_for_each_way_in_and_one_out(name: str, left: int):
    found = next(d for d in derived(name) if d.laws == ("SplitPhases",))
    stages = [s for s in found.result.stages if isinstance(s, Compute)]
    assert sum(map(permutations, stages)) == left


def test_a_transform_computes_only_what_is_kept():
    """Two axes there and back over 3 of 8 modes, the first and the last of real numbers; no library call is left."""
    explorer = Explorer(algebra("spectral_chain"), Trace(), cost=MACS, gain=float("inf"), most=100)
    found = [d for ranked in explorer.run() for d in ranked]
    assert {d.name for d in found} == {"fft_irfft2", "fft_irfft2_1"}
    best = min(found, key=macs)
    assert macs(best) <= 2 * 2 * (8 * 3 * 8 * 2 + 3 * 3 * 8 * 4)
    assert all(isinstance(s, Compute) for s in best.result.stages)
    refuted = {(d.name, d.laws) for d in found if not replay(d.certificate()).passed}
    assert refuted == set()


def test_a_library_call_without_algebra_stays_a_call():
    x, y = Tensor("x", (3,), DType.F32), Tensor("y", (3,), DType.F32)
    program = Program("p", (x,), (), (Kernel((y,), "unknown", (x,), ()),), (y,))
    assert opened(program) is program


def test_a_kronecker_product_is_two_small_products():
    text = """program p(x: f32[48,2])
    weight a: f32[8,8]
    weight b: f32[6,6]
    k: f32[48,48] = L[i:48,j:48] a[i//6,j//6] * b[i%6,j%6]
    y: f32[48,2] = L[i:48,c:2] sum[j:48]{ k[i,j] * x[j,c] }
    return y"""
    best = min(explored(text, cost=MACS), key=macs)  # at this size time is all starts of kernels
    assert ("SplitIterators" in best.laws, macs(best)) == (True, 2 * 672)
    assert replay(best.certificate()).passed


def test_the_symmetric_contraction_of_mace_takes_a_third_of_the_best_pairwise_order():
    model = SymmetricContraction(channels=4, components=9, paths=3, elements=5).eval()
    found = explored_model(model, (torch.randn(6, 4, 9), torch.randn(6, 5)))
    best = min((d for d in found if "SymmetricPowers" in d.laws), key=macs)
    pairwise = 6 * 4 * 5 * (9**3 + 9**2 + 9) + 6 * 4 * (9**3 + 9**2 + 9)  # elements first, weights folded, then Horner
    assert macs(best) <= pairwise / 3
    assert replay(best.certificate()).passed
