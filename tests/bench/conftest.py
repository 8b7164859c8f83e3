"""Suites add their folder to the import path; here each test gives it back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SUITES = Path(__file__).parent / "suites"


@pytest.fixture(autouse=True)
def _import_state(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {"tiny", "empty", "zoo", "mine"}:
            del sys.modules[name]


@pytest.fixture
def tiny() -> str:
    """The suite of small models."""
    return str(SUITES / "tiny.py")
