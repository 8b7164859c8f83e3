"""The search: monotone in its budget, the same in every process, and each law serves more than one expression."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256

import pytest
from support.derivations import SIZES, derived
from support.tree import ROOT

from tpopt.passes.derive.explore import law_names

SEARCHED = ("conv_transpose_9x9", "gaunt", "small_sums", "lora")
SCRIPT = """
import json, sys
from hashlib import sha256
from support.derivations import derived
print(json.dumps([sha256(d.certificate().dumps().encode()).hexdigest() for n in sys.argv[1:] for d in derived(n)]))
"""


@pytest.mark.parametrize("name", SEARCHED)
def test_more_states_never_find_less(name: str):
    best = [min((d.us for d in derived(name, states=n)), default=float("inf")) for n in (1, 2, 4, 8, 32, 1000)]
    assert best == sorted(best, reverse=True)


def test_certificates_do_not_depend_on_the_process():
    here = [sha256(d.certificate().dumps().encode()).hexdigest() for d in derived("small_sums")]
    command = [sys.executable, "-c", SCRIPT, "small_sums"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment("4242"))
    assert json.loads(done.stdout) == here


@pytest.mark.acceptance
def test_certificates_do_not_depend_on_the_seed_of_hashes():
    found = set()
    for seed in ("0", "1", "77", "4242"):
        command = [sys.executable, "-c", SCRIPT, *SEARCHED]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment(seed))
        found.add(tuple(json.loads(done.stdout)))
    assert len(found) == 1


def _environment(seed: str) -> dict[str, str]:
    path = os.pathsep.join((f"{ROOT}/tests", f"{ROOT}/examples"))
    return {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def test_a_law_that_is_left_out_is_not_used():
    assert any("MergeTerms" in d.laws for d in derived("lora"))
    assert not any("MergeTerms" in d.laws for d in derived("lora", frozenset({"MergeTerms"})))


ELSEWHERE = ("ExpandProducts", "OrderProducts", "ToomCook", "Strassen")
"""Part of every chain; or worth it at larger sizes than these."""


@pytest.mark.parametrize("law", [law for law in law_names() if law not in ELSEWHERE])
def test_every_law_has_expressions_to_serve(law: str):
    assert [name for name in SIZES if any(law in d.laws for d in derived(name))] != []
