"""The other contestants: eager, Inductor, ONNX Runtime and OpenVINO, each built so that it does its best in fp32."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tpopt.measure import Call

COLORS: Final = re.compile(r"\x1b\[[0-9;]*m")
"""The escape sequences that some libraries color their messages with."""

Inputs = tuple[Any, ...]
Status = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Case:
    """What a contestant runs: a module, the positional inputs of one call, and a number of threads."""

    model: Any
    inputs: Inputs
    threads: int


Builder = Callable[[Case], Call]
"""From a case to a call without arguments."""


@dataclass(frozen=True)
class Contestant:
    """A contestant that is ready to run, or the reason why there is none."""

    name: str
    status: Status
    call: Call | None = None
    reason: str | None = None
    build_s: float = 0.0

    def failed(self, reason: str) -> Contestant:
        """Returns the same contestant, out of the race."""
        return Contestant(self.name, "failed", None, reason, self.build_s)

    def to_dict(self) -> dict[str, object]:
        return {"status": self.status, "reason": self.reason, "build_s": self.build_s}


def build_peer(name: str, case: Case) -> Contestant:
    """Builds a peer and makes its first call; a peer that is missing or fails says why, and never raises."""
    import torch

    started = time.perf_counter()
    try:
        with torch.no_grad(), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call = PEERS[name](case)
            call()
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed: pip install 'tpopt[bench]'"
        return Contestant(name, "missing", reason=reason)
    except Exception as error:  # noqa: BLE001  # whatever ails another compiler is a line in the report
        return Contestant(name, "failed", reason=first_line(error), build_s=time.perf_counter() - started)
    return Contestant(name, "ok", call, build_s=time.perf_counter() - started)


def first_line(error: BaseException) -> str:
    """Returns the kind of the error that caused this one, and the first line of what it says."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in COLORS.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _eager(case: Case) -> Call:
    return lambda: case.model(*case.inputs)


def _inductor(case: Case) -> Call:
    import torch

    compiled: Callable[..., object] = torch.compile(case.model)
    return lambda: compiled(*case.inputs)


def _inductor_max(case: Case) -> Call:
    """Inductor with constants folded and layouts chosen (freezing), and its kernels tuned."""
    import torch
    from torch._inductor import config

    options: dict[str, Any] = {"freezing": True, "max_autotune": True}
    # The options make this another backend than plain Inductor's, so that dynamo keeps their code apart; but whether
    # parameters are constants is decided while tracing, and read from the global settings.
    compiled: Callable[..., object] = torch.compile(case.model, options=options)
    with config.patch(options):
        compiled(*case.inputs)
    return lambda: compiled(*case.inputs)


def _onnxruntime(case: Case) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    graph = _onnx(case)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]
    feed = dict(zip(names, _arrays(case.inputs), strict=True))
    return lambda: session.run(None, feed)


def _openvino(case: Case) -> Call:
    import openvino

    core = openvino.Core()
    graph = core.read_model(_onnx(case))
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": case.threads}
    request = core.compile_model(graph, "CPU", hints).create_infer_request()
    arrays = _arrays(case.inputs)

    def call() -> object:
        results = request.infer(arrays, share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]

    return call


def _onnx(case: Case) -> bytes:
    """Exports through torch.export; the exporter's progress is swallowed."""
    import onnxscript  # noqa: F401  # the exporter needs it, and its absence is to be said by name
    import torch
    from torch.utils import _pytree

    devices = sorted({str(leaf.device) for leaf in _pytree.tree_leaves(case.inputs)})
    if devices != ["cpu"]:
        raise RuntimeError(f"set up for the CPU alone, and the inputs are on {', '.join(devices)}")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exported = torch.onnx.export(case.model, case.inputs, dynamo=True, verbose=False)
    assert exported is not None, "with dynamo=True and no file the exporter returns a program"
    serialized: bytes = exported.model_proto.SerializeToString()
    return serialized


def _arrays(inputs: Inputs) -> list[Any]:
    from torch.utils import _pytree

    return [leaf.detach().cpu().numpy() for leaf in _pytree.tree_leaves(inputs)]


PEERS: Final[Mapping[str, Builder]] = {
    "eager": _eager,
    "inductor": _inductor,
    "inductor-max": _inductor_max,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""Each peer by name, and how it is built."""
