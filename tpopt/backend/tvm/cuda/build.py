"""What runs in a build worker: from a request to a cubin."""

from __future__ import annotations

from pathlib import Path

from tpopt.backend.cuda.compilers import compile_cubin
from tpopt.backend.cuda.request import CudaRequest
from tpopt.backend.tvm.cuda.source import cuda_source
from tpopt.backend.tvm.target import check_version


def build_cubin(payload: bytes, out: Path) -> bytes:
    """Builds the kernel of an encoded :class:`CudaRequest` as a cubin at ``out``; returns its source."""
    check_version()
    request = CudaRequest.decode(payload)
    source = cuda_source(request.plan, request.device.arch)
    compile_cubin(source, request.device.arch, out)
    return source.encode()
