"""ONNX models as torch modules, so that they enter like any other model. Needs the package ``onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpopt.errors import CorruptFile, UnsupportedModel, UsageError


def onnx_model(path: Path, seed: int = 0) -> tuple[Any, tuple[Any, ...]]:
    """The module of a file, and random inputs of its declared shapes (extents that are not declared are 1).

    Raises:
        UsageError: the package onnx is not installed, or the file cannot be read.
        CorruptFile: it is no ONNX model, or does not pass ONNX's own checker.
        UnsupportedModel: it has operators that are not in the table; all of them are named.
    """
    try:
        import onnx
    except ImportError as error:
        raise UsageError("reading ONNX models needs the package onnx: pip install 'tpopt[onnx]'") from error
    from google.protobuf.message import DecodeError

    from tpopt.frontend.onnx.module import OnnxModule, random_inputs

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError, RuntimeError, TypeError) as error:
        raise CorruptFile(f"{path} is no ONNX model: {str(error).strip().splitlines()[0]}") from error
    module = OnnxModule(model)
    if module.missing:
        raise UnsupportedModel(
            f"{path} has operators that tpopt cannot read: {', '.join(module.missing)}; export the model with "
            "torch.export, or replace them"
        )
    return module, random_inputs(model, seed)
