"""What one compilation did and why: recorded facts, as rows, as text and as JSON."""

from __future__ import annotations

from tpopt.report.environment import record_environment
from tpopt.report.facts import (
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
    ResultRow,
    SettingRow,
    VerificationRow,
    Work,
)
from tpopt.report.report import SCHEMA_VERSION, Report
from tpopt.report.saved import read_report, write_report

__all__ = [
    "SCHEMA_VERSION",
    "CandidateRow",
    "CoverRow",
    "DerivationRow",
    "EnvironmentRow",
    "KernelRow",
    "MemoryRow",
    "OpaqueRow",
    "ParetoRow",
    "PassRow",
    "RefusalRow",
    "Report",
    "ResultRow",
    "SettingRow",
    "VerificationRow",
    "Work",
    "read_report",
    "record_environment",
    "write_report",
]
