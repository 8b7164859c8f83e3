"""What runs in a build worker: from a request to a shared object."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tpopt.backend.build.link import link_shared
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.tvm.function import kernel_function
from tpopt.backend.tvm.target import check_version, host_module, write_object


def build_kernel(payload: bytes, out: Path) -> bytes:
    """Builds the kernel of an encoded :class:`KernelRequest` as a shared object at ``out``; returns its source."""
    check_version()
    function = kernel_function(KernelRequest.decode(payload).plan)
    module = host_module(function)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "kernel.o"
        write_object(module, place)
        link_shared(place, out)
    return str(function.script()).encode()
