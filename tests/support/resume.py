"""``--resume FILE``: a row that passed on the same sources is not run again.

FILE maps the id of a row to a digest of the package, the examples and the row's own test file. It is written after
each row, so that a run which was stopped goes on where it stood.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = ("tpopt", "passes", "cost_models", "examples")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--resume", metavar="FILE", help="skip what FILE says has passed on these sources; record passes")


def pytest_configure(config: pytest.Config) -> None:
    if file := config.getoption("--resume"):
        config.pluginmanager.register(Resume(Path(file), config.rootpath), "tpopt-resume")


class Resume:
    """Deselects rows that have passed, and records those that pass."""

    def __init__(self, file: Path, root: Path) -> None:
        self.file, self.root = file, root
        self.passed: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        self.sources = digest(path for name in SOURCES for path in sorted((root / name).rglob("*.py")))
        self.current: dict[str, str] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        self.current = {item.nodeid: digest([item.path], self.sources) for item in items}
        done = [item for item in items if self.passed.get(item.nodeid) == self.current[item.nodeid]]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item not in done]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if report.when == "call" and report.passed:
            self.passed[item.nodeid] = self.current[item.nodeid]
            self.file.parent.mkdir(parents=True, exist_ok=True)
            whole = self.file.with_suffix(".tmp")
            whole.write_text(json.dumps(self.passed, indent=1, sort_keys=True))
            whole.replace(self.file)
        return report

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.current:
            session.exitstatus = pytest.ExitCode.OK  # every row has passed before


def digest(files: Iterator[Path] | list[Path], seed: str = "") -> str:
    total = hashlib.blake2b(seed.encode(), digest_size=16)
    for file in files:
        total.update(file.as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()
