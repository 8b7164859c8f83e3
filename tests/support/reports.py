"""Reports made by hand, for the tests of what prints, saves and reads them."""

from __future__ import annotations

from tpopt.report import (
    CandidateRow,
    CoverRow,
    DerivationRow,
    EnvironmentRow,
    KernelRow,
    MemoryRow,
    OpaqueRow,
    ParetoRow,
    PassRow,
    RefusalRow,
    Report,
    ResultRow,
    SettingRow,
    VerificationRow,
    Work,
)

ENVIRONMENT = EnvironmentRow(
    tpopt="0.1.0",
    python="3.11.9",
    packages=(SettingRow(name="torch", value="2.13.0+cpu"), SettingRow(name="apache-tvm", value="0.27.0.post1")),
    platform="Linux x86_64",
    cpu="AMD EPYC 9R14",
    isa=("avx2", "avx512f"),
    cores=2,
    threads=2,
    device="cpu",
    settings=(SettingRow(name="OMP_NUM_THREADS", value="2"),),
    options=(SettingRow(name="effort", value="fast"),),
)
STEM = "net.py:12 x = self.relu(self.bn(self.conv(x)))"
HEAD = "net.py:14 return self.head(x.flatten(1))"

OPTIMIZED = Report(
    result=ResultRow(
        status="optimized", reason="faster in 30 interleaved rounds", speedup=1.8437, low=1.79, high=1.9012
    ),
    environment=ENVIRONMENT,
    work=Work(
        macs_before=1_814_073_344,
        macs_after=1_810_000_000,
        bytes_before=157_286_400,
        bytes_after=104_857_600,
        macs_algebra_share=0.9985,
        macs_opaque=2_700_000,
    ),
    kernels=(
        KernelRow(kind="onednn", name="relu", source=(STEM,), predicted_us=790.0, measured_us=812.25),
        KernelRow(kind="view", name="flatten", source=(HEAD,)),
        KernelRow(kind="original", name="sorted", source=("net.py:13 x = x.sort().values",), predicted_us=64.0),
        KernelRow(kind="onednn", name="head", source=(HEAD,), predicted_us=9.5, measured_us=11.0),
    ),
    opaque=(
        OpaqueRow(
            target="aten.special_i0.default",
            name="i0",
            source=("net.py:13 x = torch.special.i0(x)",),
            reason="no lowering, and torch has no decomposition",
        ),
    ),
    passes=(
        PassRow(name="fold-constants", applied=20, seconds=0.0412),
        PassRow(
            name="merge-horizontal",
            applied=0,
            refused=(
                RefusalRow(reason="the inputs differ", count=3),
                RefusalRow(reason="one of them is an output", count=1),
            ),
            seconds=0.001,
        ),
    ),
    derivations=(DerivationRow(cover=("relu",), laws=("DistributeProductOverSum", "HoistInvariantFactor")),),
    pareto=(
        ParetoRow(
            predicted_us=1180.0, predicted_error=1.1e-2, measured_error=2.4e-2, drop=0.02, weights_bytes=23_413_760,
            status="refused", note="the metric drops by 0.02, more than max_drop=0.01",
        ),
    ),
    verification=VerificationRow(programs=24, l2_rel=3.1e-7, max_abs=2.4e-6, tolerance=1e-5, seed=7, passed=True),
    memory=MemoryRow(arena_bytes=6_422_528, owned_peak_bytes=3_211_264, weights_bytes=46_827_520),
    choice=(
        CoverRow(
            cover=("relu",),
            source=(STEM,),
            candidates=(
                CandidateRow(
                    name="original",
                    kind="original",
                    price_us=1490.5,
                    low_us=1471.0,
                    high_us=1502.25,
                    predicted_us=1100.0,
                    status="lost",
                    reason="84 % slower",
                ),
                CandidateRow(
                    name="onednn convolution + relu, nhwc",
                    kind="onednn",
                    price_us=812.25,
                    low_us=800.0,
                    high_us=830.5,
                    predicted_us=790.0,
                    status="chosen",
                ),
                CandidateRow(
                    name="gemm", kind="gemm", price_us=None, status="refused", reason="the kernel is larger than 1x1"
                ),
                CandidateRow(
                    name="onednn convolution + relu, nchw", kind="onednn", price_us=2200.0, status="lost",
                    reason="priced by the model alone",
                ),
            ),
            chosen="onednn convolution + relu, nhwc",
            reason="least time among 3 priced candidates",
        ),
        CoverRow(
            cover=("sorted", "order"),
            source=(),
            candidates=(CandidateRow(name="original", kind="original", price_us=64.0, status="chosen"),),
            chosen="original",
            reason="the only candidate",
        ),
    ),
    original_share=0.0721,
    compile_seconds=41.25,
)  # fmt: skip
"""Every field of every row is set somewhere in it."""

KEPT = Report(
    result=ResultRow(status="original", reason="the plan is not faster", speedup=0.97, low=0.95, high=0.99),
    environment=ENVIRONMENT,
    compile_seconds=12.0,
)
"""The original was handed out after a lost race."""

REFUSED = Report(
    result=ResultRow(status="original", reason="torch.export refused: data-dependent control flow (net.py:9)"),
    environment=ENVIRONMENT,
    compile_seconds=0.5,
)
"""The model could not be traced: nothing else is known."""
