"""Contraction order: equal to the optimum where that is known, at or below published costs elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from support import networks

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.contraction import Cost, Network, best_order, evaluate_order
from tpopt.passes.contraction.cost import MACS
from tpopt.passes.contraction.network import leaves
from tpopt.passes.contraction.order import greedy_tree


def every(names: str, size: int) -> dict[str, int]:
    return dict.fromkeys(names, size)


CASES = [
    ("pi,qj,ijkl,rk,sl->pqrs", every("ijklpqrs", 10), 400_000),
    ("bdik,acaj,ikab,ajac,ikbd->", {**every("abcd", 11), **every("ijk", 9)}, 80_680),
    ("ijk,klmn,nop,jmp->ilo", every("ijklmnop", 20), 20**6 + 2 * 20**5),
    ("iP,sP,PQ,jQ,tQ,ti,sj->", {**every("ij", 50), **every("st", 2000), **every("PQ", 300)}, 800_000_000),
    ("klcd,cdij,abkl->abij", {**every("abcd", 20), **every("ijkl", 6)}, 2 * 20**2 * 6**4),
    ("zij,zjk,zk->zi", {"z": 5, "i": 4, "j": 5, "k": 3}, 5 * 35),
    ("ij,jk,kl,lm,mn,np->ip", dict(zip("ijklmnp", (8, 90, 7, 80, 6, 70, 5), strict=True)), 15_000),
]


@pytest.mark.parametrize("seed", range(12))
def test_few_operands_are_solved_exactly(seed: int):
    random = np.random.default_rng(seed)
    network = networks.random_network(random, int(random.integers(3, 9)))
    assert best_order(network).macs == networks.least_macs(network)


@pytest.mark.parametrize("count", [15, 40, 120, 200])
def test_a_matrix_chain_of_any_length_is_solved_exactly(count: int):
    extents = np.random.default_rng(count).integers(2, 60, count + 1).tolist()
    assert best_order(networks.matrix_chain(extents)).macs == networks.chain_optimum(extents)


def test_sums_over_an_index_that_one_operand_has_come_first():
    order = best_order(networks.of("nlp,nlq->l", n=100, l=100, p=100, q=100))
    assert (order.presums, order.macs) == ((0, 1), 10_000)  # the plain product takes 100 million


def test_an_outer_product_first_where_it_is_cheaper():
    network = networks.of("ab,b,c,cd->ad", a=50, b=2, c=2, d=50)
    assert best_order(network).macs == networks.least_macs(network)


@pytest.mark.parametrize(
    ("equation", "sizes", "most"),
    CASES,
    ids=["four transforms", "perturbation", "numpy 32111", "opt_einsum 248", "ladder", "vector last", "opt_einsum 179"],
)  # fmt: skip
def test_expressions_that_other_tools_were_reported_to_get_wrong(equation: str, sizes: dict[str, int], most: int):
    network = networks.of(equation, **sizes)
    order = best_order(network)
    assert order.macs == networks.least_macs(network)
    assert order.macs <= most


def test_many_operands_beat_greedy_and_the_zipper_of_a_matrix_product_state_is_found():
    network = networks.matrix_product_state(100, bond=32, physical=3)
    zipper = 98 * 2 * 32**3 * 3
    order = best_order(network)
    assert order.macs <= zipper + 2 * 32**2 * 3 * 2
    assert order.macs <= evaluate_order(network, greedy_tree(network)).macs


def test_a_square_lattice_is_contracted_no_dearer_than_row_by_row():
    network = networks.projected_entangled_pairs(6, bond=4)
    order = best_order(network)
    assert order.macs <= 6 * 6 * 4**8
    assert order.macs <= evaluate_order(network, greedy_tree(network)).macs


def test_products_of_constants_take_no_time():
    network = networks.of("ab,bc,cd->ad", a=4, b=100, c=100, d=100)
    fixed = Network(network.operands, network.output, network.sizes, frozenset({1, 2}))
    order = best_order(fixed)
    assert (order.macs, order.folded_macs) == (4 * 100 * 100, 100**3)
    assert order.tree == (0, (1, 2))


def test_an_expression_is_formed_as_rarely_as_possible():
    network = Network(
        (("b", "c", "m"), ("m", "e", "c"), ("b", "e")),
        ("b", "c"),
        {"b": 50, "c": 9, "m": 80, "e": 7},
        operations={0: 2},
    )
    assert best_order(network).tree == (0, (1, 2))


def test_a_bound_on_results_is_kept_or_refused():
    network = networks.of("ab,cb->ac", a=100, b=2, c=100)
    with pytest.raises(LimitExceeded, match="keeps results within 100 elements"):
        best_order(network, Cost(most_elements=100))


def test_every_operand_is_used_once():
    order = best_order(networks.matrix_product_state(20, 8, 2))
    assert sorted(leaves(order.tree)) == list(range(40))


def test_bad_networks_are_named():
    with pytest.raises(UsageError, match="index 'b' has none"):
        networks.of("ab->a", a=2)
    with pytest.raises(UsageError, match="index 'c' belongs to no operand"):
        networks.of("ab->c", a=2, b=2, c=2)
    with pytest.raises(UsageError, match="a product needs an operand"):
        Network((), (), {})


def test_the_same_network_has_the_same_order():
    network = networks.projected_entangled_pairs(5, 3)
    assert best_order(network, MACS).tree == best_order(network, MACS).tree
