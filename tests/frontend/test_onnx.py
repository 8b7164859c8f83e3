"""ONNX models: written in ONNX's own text, and exported from torch; against ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch

import tpopt
from tpopt.bench.suites import load_suite
from tpopt.cli import main
from tpopt.errors import CorruptFile, UnsupportedModel, UsageError
from tpopt.frontend.onnx import onnx_model
from tpopt.frontend.onnx.operators import OPERATORS

HEADER = '<ir_version: 9, opset_import: ["" : 18]>\n'
WRITTEN = {
    "mlp": """mlp (float[3,8] x, float[8,16] w, float[16] b, float[4,16] v) => (float[3,4] y) {
        h = MatMul (x, w)  a = Add (h, b)  r = Gelu2 (a)  y = Gemm <transB = 1> (r, v)
    }""",
    "convolution": """net (float[1,3,9,9] x, float[4,3,3,3] w, float[4] b) => (float[1,4,5,5] y) {
        c = Conv <pads = [1,0,2,1], strides = [2,2], kernel_shape = [3,3]> (x, w, b)
        y = LeakyRelu <alpha = 0.2> (c)
    }""",
    "same_padding": """net (float[1,2,7,7] x, float[2,1,3,3] w) => (float[1,2,4,4] y) {
        y = Conv <auto_pad = "SAME_UPPER", strides = [2,2], group = 2> (x, w)
    }""",
    "pools": """net (float[1,2,8,8] x) => (float[1,2,4,4] m, float[1,2,4,4] a, float[1,2,1,1] g) {
        m = MaxPool <kernel_shape = [3,3], strides = [2,2], pads = [0,0,1,1]> (x)
        a = AveragePool <kernel_shape = [2,2], strides = [2,2]> (x)
        g = GlobalAveragePool (x)
    }""",
    "norms": """net (float[2,6,4] x, float[4] s, float[4] b, float[6] t) => (float[2,6,4] y, float[2,6,4] z) {
        y = LayerNormalization <axis = -1, epsilon = 0.001> (x, s, b)
        z = InstanceNormalization (x, t, t)
    }""",
    "computed_shape": """net (float[2,3,4] x) => (float[2,12] y, float[2,3,1,4] u) {
        s = Shape (x)
        zero = Constant <value_ints = [0]> ()  one = Constant <value_ints = [1]> ()
        minus = Constant <value_ints = [-1]> ()  two = Constant <value_ints = [2]> ()
        n = Slice (s, zero, one)  t = Concat <axis = 0> (n, minus)
        y = Reshape (x, t)  u = Unsqueeze (x, two)
    }""",
    "slices": """net (float[4,6] x) => (float[2,3] a, float[4,6] b, float[6,4] c, float[8,6] d) {
        zero = Constant <value_ints = [0,1]> ()  end = Constant <value_ints = [4,6]> ()
        two = Constant <value_ints = [2,2]> ()  axes = Constant <value_ints = [0,1]> ()
        a = Slice (x, zero, end, axes, two)
        last = Constant <value_ints = [-1]> ()  low = Constant <value_ints = [-100]> ()
        one = Constant <value_ints = [1]> ()  back = Constant <value_ints = [-1]> ()
        b = Slice (x, last, low, one, back)
        c = Transpose <perm = [1,0]> (x)  d = Concat <axis = 0> (x, x)
    }""",
    "reductions": """net (float[3,4,5] x) => (float[3,5] a, float[3,1,5] m, float[1] l, int64[3,4] i) {
        axis = Constant <value_ints = [1]> ()
        a = ReduceSum <keepdims = 0> (x, axis)  m = ReduceMean (x, axis)
        all = ReduceLogSumExp <keepdims = 0> (x)  where = Constant <value_ints = [0]> ()  l = Unsqueeze (all, where)
        i = ArgMax <axis = 2, keepdims = 0> (x)
    }""",
    "lookups": """net (int64[2,3] i, float[2,4] w, float[5,4] x) => (float[2,3,4] e, float[2,3,5] g) {
        e = Gather (w, i)  t = Transpose (x)  f = Gather <axis = 0> (t, i)  g = Identity (f)
    }""",
    "attention": """net (float[1,2,5,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,5,8] y) {
        t = Transpose <perm = [0,1,3,2]> (k)  s = MatMul (q, t)
        c = Constant <value = float {0.35}> ()  d = Mul (s, c)
        p = Softmax <axis = -1> (d)  y = MatMul (p, v)
    }""",
    "resized": """net (float[1,2,4,4] x) => (float[1,2,8,8] y, float[1,2,8,8] z, float[1,2,6,6] p) {
        s = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
        y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s)
        z = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , s)
        b = Constant <value_ints = [0,0,1,1,0,0,1,1]> ()  p = Pad <mode = "reflect"> (x, b)
    }""",
    "choices": """net (float[3,4] x, float[3,4] y) => (float[3,4] w, float[3,4] c, float[3,4] m, float[3,2] t) {
        g = Greater (x, y)  w = Where (g, x, y)
        low = Constant <value = float {-0.5}> ()  high = Constant <value = float {0.5}> ()
        c = Clip (x, low, high)  m = Max (x, y, c)  k = Constant <value_ints = [2]> ()  t, j = TopK (x, k)
    }""",
}
WRITTEN["mlp"] = WRITTEN["mlp"].replace("Gelu2", "Sigmoid")


def write(text: str, path: Path) -> Path:
    model = onnx.parser.parse_model(HEADER + text)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def by_runtime(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    found: list[np.ndarray[Any, Any]] = session.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})
    return found


def check(path: Path, inputs: tuple[torch.Tensor, ...], model: torch.nn.Module) -> None:
    compiled = tpopt.compile(model, inputs, choice="model", kernels="library", gate=False, verify=False)
    assert compiled.plan is not None, compiled.report.result.reason
    for got, want in zip(compiled(*inputs), by_runtime(path, inputs), strict=True):
        wanted = torch.from_numpy(want)
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        if wanted.is_floating_point():
            assert float((got - wanted).norm()) <= 2e-5 * max(float(wanted.norm()), 1e-3)
        else:
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("name", WRITTEN)
def test_models_written_in_onnx_agree_with_onnx_runtime(name: str, tmp_path: Path):
    path = write(WRITTEN[name], tmp_path / "model.onnx")
    model, inputs = onnx_model(path)
    check(path, inputs, model)


@pytest.mark.acceptance
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(load_suite("zoo")))
def test_models_of_the_zoo_come_back_from_onnx(name: str, tmp_path: Path):
    model, inputs, *_ = load_suite("zoo")[name]()
    path = tmp_path / "model.onnx"
    try:
        with torch.no_grad():
            torch.onnx.export(model, tuple(inputs), str(path), dynamo=True, external_data=False, verbose=False)
    except torch.onnx.errors.OnnxExporterError as error:
        pytest.skip(f"torch.onnx does not export it: {str(error).splitlines()[0]}")
    back, _ = onnx_model(path)
    flat = tuple(t for t in torch.utils._pytree.tree_leaves(tuple(inputs)) if isinstance(t, torch.Tensor))
    check(path, flat, back)


def test_the_command_takes_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write(WRITTEN["attention"], tmp_path / "model.onnx")
    with pytest.raises(SystemExit) as ended:
        main(["optimize", str(path), "--choice", "model", "--kernels", "library", "--no-gate", "--json"])
    said = capsys.readouterr()
    assert (ended.value.code or 0, json.loads(said.out)["result"]["status"]) == (0, "optimized")
    assert "executes" not in said.err


def test_operators_that_cannot_be_read_are_all_named(tmp_path: Path):
    text = "net (float[2,3] x) => (float[2,3] y) { a = Det2 (x)  y = NonZero (x) }"
    model = onnx.parser.parse_model(HEADER + text.replace("a = Det2 (x)  ", "a = Acosh (x) "))
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(UnsupportedModel, match="cannot read: Acosh, NonZero"):
        onnx_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x09" * 1000])
def test_what_is_no_model_is_refused(data: bytes, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(CorruptFile, match="is no ONNX model"):
        onnx_model(tmp_path / "model.onnx")


def test_weights_beside_the_file_stay_beside_the_file(tmp_path: Path):
    path = write(WRITTEN["mlp"], tmp_path / "model.onnx")
    model = onnx.load(str(path))
    tensor = onnx.numpy_helper.from_array(np.zeros((8, 16), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../../etc/passwd"), ("offset", "0"), ("length", "512")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises((CorruptFile, UsageError)):
        onnx_model(path)


def test_the_table_is_of_operators_that_onnx_has():
    known = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    assert sorted(OPERATORS.keys() - known) == []
