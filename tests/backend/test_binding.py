from __future__ import annotations

import pytest
import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.operators import function, inference, out_function, returns_one_tensor
from tpopt.errors import InvalidProgram, KernelUnsupported
from tpopt.ir import Compute, DType, Kernel, Opaque, Symbol, Tensor, index, iters
from tpopt.ir.stages import Attribute

X, Y = Tensor("x", (4, 6), DType.F32), Tensor("y", (4, 6), DType.F32)
S = index(Symbol("s0", 1, 9))


def bind(target: str, *args: Attribute, outs: tuple[Tensor, ...] = (Y,), effectful: bool = False, **sizes: int) -> Call:
    return Binder({}).bind(Opaque(outs, target, args, effectful=effectful), sizes)


def run(call: Call, **values: torch.Tensor) -> object:
    args, kwargs = call.fill(values.__getitem__)
    return call.function(*args, **kwargs)


def test_arguments_are_decoded_and_tensors_are_references():
    call = bind("aten.cat.default", (X, X), 1)
    assert (call.args, call.refs(), call.outs) == (([Ref("x"), Ref("x")], 1), ("x",), ("y",))
    assert torch.equal(run(call, x=torch.ones(2, 1)), torch.ones(2, 2))


def test_run_time_integers_are_evaluated():
    assert bind("aten.view.default", X, (S, 24 // 1, 2 * S), s0=3).args[1] == [3, 24, 6]


def test_a_run_time_integer_that_no_input_tells_is_an_error_that_names_it():
    with pytest.raises(InvalidProgram, match=r"aten.view.default takes the run-time integer s0, which no"):
        bind("aten.view.default", X, (S,))


def test_a_view_of_a_tensor_with_other_strides_copies_rather_than_fails():
    call = bind("aten.view.default", X, (24,))
    assert torch.equal(run(call, x=torch.arange(24.0).view(6, 4).t()), torch.arange(24.0).view(6, 4).t().reshape(24))


def test_an_operator_with_several_results_yields_a_list():
    outs = (Y, Tensor("i", (4,), DType.I64))
    call = bind("aten.max.dim", X, 1, outs=outs)
    assert (call.single, call.out_function) == (False, None)
    values = run(call, x=torch.eye(4))
    assert isinstance(values, list)
    assert [v.tolist() for v in values] == [[1.0] * 4, [0, 1, 2, 3]]


def test_an_operator_that_draws_random_numbers_has_no_out_form():
    assert bind("aten.bernoulli.default", X).out_function is not None
    assert bind("aten.bernoulli.default", X, effectful=True).out_function is None


def test_a_stage_of_algebra_is_no_kernel():
    loops = iters("i", X.shape)
    with pytest.raises(InvalidProgram, match="Compute of y is no kernel: a plan holds Kernel and Opaque stages"):
        Binder({}).bind(Compute((Y,), loops, (X.at(loops),)), {})


def test_a_weight_is_packed_once_for_each_key():
    binder, made = Binder({}), []

    def pack() -> torch.Tensor:
        made.append(torch.zeros(8))
        return made[-1]

    assert [binder.packed((k,), pack) is binder.packed((k,), pack) for k in "ab"] == [True, True]
    assert (len(made), binder.packed_bytes) == (2, 64)


def test_the_out_form_takes_the_same_arguments():
    add = out_function("aten.add.Tensor")
    assert add is not None
    buffer = torch.zeros(3)
    assert add(torch.ones(3), torch.ones(3), alpha=2, out=buffer) is buffer
    assert buffer.tolist() == [3.0] * 3
    assert out_function("aten.view.default") is None


@pytest.mark.parametrize(
    ("target", "single"), [("aten.relu.default", True), ("aten.topk.default", False), ("aten.split.Tensor", False)]
)
def test_how_many_results_an_operator_has_is_read_off_its_schema(target: str, single: bool):
    assert returns_one_tensor(target) is single


def test_inference_records_no_gradient_and_puts_everything_back():
    x = torch.ones(3, requires_grad=True)
    with inference(), inference():
        assert not torch.is_grad_enabled()
        assert not function("aten.relu.default")(x).requires_grad
    assert torch.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), inference():
        _ = 1 / 0
    assert torch.is_grad_enabled()
    assert (x * 2).requires_grad


def test_a_reference_is_found_wherever_it_stands():
    call = Call("f", print, (Ref("a"), [Ref("b"), [Ref("a"), 3]]), (("k", Ref("c")),), ("y",))
    assert call.refs() == ("a", "b", "c")
    assert call.fill(str.upper) == (["A", ["B", ["A", 3]]], {"k": "C"})


Z = Tensor("z", (4, 3), DType.F32)
LINEAR: tuple[tuple[str, Attribute], ...] = (
    ("x_order", (0, 1)), ("w_order", (0, 1)), ("out_order", (0, 1)), ("rows", 1), ("columns", (3,)), ("depth", 6),
    ("ones", 0), ("missing", ()), ("bias", None), ("binary", False), ("activation", ""),
)  # fmt: skip


def test_what_was_packed_for_candidates_that_lost_is_forgotten():
    binder = Binder({"w": torch.randn(3, 6), "v": torch.randn(3, 6)})
    stages = [Kernel((Z,), "onednn.linear", (X, Tensor(name, (3, 6), DType.F32)), (), LINEAR) for name in "wv"]
    packed = [binder.bind(stage, {}).args[1] for stage in stages]
    both = binder.packed_bytes
    binder.keep_only(stages[:1], {})
    assert 0 < binder.packed_bytes < both
    assert binder.bind(stages[0], {}).args[1] is packed[0]
    assert binder.bind(stages[1], {}).args[1] is not packed[1]


def test_what_a_library_does_not_pack_for_this_processor_is_refused():
    def build() -> None:
        raise RuntimeError("bf16 path needs the cpu support\nException raised from reorder")

    with pytest.raises(KernelUnsupported, match=r"^bf16 path needs the cpu support$"):
        Binder({}).packed(("linear",), build)
