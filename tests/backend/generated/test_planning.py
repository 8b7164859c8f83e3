"""What a kernel is planned to be: refusals by their reasons, loops, registers, constants, and what a request names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.generated import program

from tpopt.backend.generated.machine import Processor, host_processor
from tpopt.backend.generated.plan import KernelPlan, Sweep
from tpopt.backend.generated.planning import plan_kernel
from tpopt.backend.generated.request import KernelRequest
from tpopt.errors import KernelUnsupported
from tpopt.ir.parse import parse_program

WIDE = Processor(vector_bytes=64, registers=32, threads=2)


def planned(text: str, constants: tuple[str, ...] = (), processor: Processor = WIDE) -> KernelPlan:
    return plan_kernel(parse_program(text), frozenset(constants), processor)


def sweeps(plan: KernelPlan) -> dict[str, Sweep]:
    return {i.name: s for n in plan.nests for i, s in n.sweeps.items()}


LINEAR = """program p(x: f32[128,768], w: f32[3072,768])
y: f32[128,3072] = L[i:128,j:3072] sum[k:768]{ x[i,k] * w[j,k] }
return y"""


def test_constant_weights_lie_in_vectors_of_what_they_make():
    plan = planned(LINEAR, ("w",))
    assert (sweeps(plan)["j"].lanes, [t.name for t in plan.reads], plan.packs[0].shape[-1]) == (16, ["x"], 16)


def test_the_largest_operand_streams_by_once():
    (nest,) = planned(LINEAR, ("w",)).nests
    assert [i.name for i in nest.order] == ["j", "i"]


def test_accumulators_fit_into_the_registers():
    for registers in (16, 32):
        (nest,) = planned(LINEAR, ("w",), replace(WIDE, registers=registers)).nests
        steps = [s.count for s in nest.sweeps.values()]
        assert torch.tensor(steps).prod() <= registers - 4


def test_weights_that_may_change_are_read_where_they_are():
    plan = planned(LINEAR)
    assert ([t.name for t in plan.reads], plan.packs) == (["x", "w"], ())


def test_rows_of_a_sum_lie_in_vectors_across_it():
    (nest,) = planned("program p(x: f32[64,512])\ny: f32[64] = L[i:64] sum[k:512]{ x[i,k] }\nreturn y").nests
    assert [(i.name, s.lanes) for i, s in nest.across.items()] == [("k", 16)]


@pytest.mark.parametrize(("rows", "parallel"), [(8, 0), (8192, 1)])
def test_threads_are_woken_for_work_that_is_worth_it(rows: int, parallel: int):
    (nest,) = planned(f"program p(x: f32[{rows},64])\ny: f32[{rows},64] = L[i:{rows},j:64] exp(x[i,j])\nreturn y").nests
    assert nest.parallel == parallel


def test_stages_without_common_rows_are_no_kernel():
    text = """program p(x: f32[8,8])
s: f32[] = L[] sum[k:8,l:8]{ x[k,l] }
y: f32[8,8] = L[i:8,j:8] x[i,j] / s[]
return y"""
    with pytest.raises(KernelUnsupported, match="share no loops"):
        planned(text)


def test_a_row_that_reads_a_whole_matrix_anew_is_no_kernel():
    text = """program p(x: f32[64,768], w: f32[768,768], v: f32[768,768])
a: f32[64,768] = L[i:64,j:768] sum[k:768]{ x[i,k] * w[j,k] }
y: f32[64,768] = L[i:64,j:768] sum[k:768]{ a[i,k] * v[j,k] }
return y"""
    with pytest.raises(KernelUnsupported, match="each row would read 2359296 bytes of w anew"):
        planned(text)


def test_a_tensor_that_32_bits_do_not_count_is_refused():
    with pytest.raises(KernelUnsupported, match="32 bits"):
        planned("program p(x: f32[65536,32768])\ny: f32[65536] = L[i:65536] x[i,7]\nreturn y")


@pytest.mark.parametrize(("shape", "body"), [("0,3", "sum[k:0]{ x[k,i] }"), ("3,0", "sum[k:0]{ x[i,k] }")])
def test_a_tensor_without_elements_is_refused(shape: str, body: str):
    with pytest.raises(KernelUnsupported, match="no elements"):
        planned(f"program p(x: f32[{shape}])\ny: f32[3] = L[i:3] {body}\nreturn y")


def test_a_size_that_is_not_known_is_refused():
    text = "program p(x: f32[n])\nsymbol n in [1, 64]\ny: f32[n] = L[i:n] x[i]\nreturn y"
    with pytest.raises(KernelUnsupported, match="is not known before the model runs"):
        planned(text)


X = torch.randn(4, 6)
BODY = "y: f32[4,6] = L[i:4,j:6] x[i,j] * 2.0"
REQUEST = KernelRequest.of(program(BODY, "y", x=X), (), WIDE)


def test_names_make_no_other_request():
    other = program("out: f32[4,6] = L[a:4,b:6] z[a,b] * 2.0", "out", z=X)
    assert KernelRequest.of(other, (), WIDE).digest == REQUEST.digest


@pytest.mark.parametrize(
    "other",
    [
        KernelRequest.of(program(BODY, "y", x=X), (0,), WIDE),
        KernelRequest.of(program(BODY.replace("2.0", "3.0"), "y", x=X), (), WIDE),
        replace(REQUEST, processor=replace(WIDE, threads=1)),
        replace(REQUEST, processor=replace(WIDE, model="another")),
        REQUEST.strided({0: (1, 4)}),
    ],
)
def test_whatever_changes_the_machine_code_makes_another_request(other: KernelRequest):
    assert other.digest != REQUEST.digest


def test_a_request_survives_the_way_to_a_worker():
    request = REQUEST.strided({0: (1, 4)})
    assert KernelRequest.decode(request.encode()) == request


def test_the_host_is_named():
    assert host_processor().model != ""
    assert host_processor().threads == torch.get_num_threads()
