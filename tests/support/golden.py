"""Golden files: text that a test produced once, read by a person, and must produce again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/* anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden("ir/conv.txt", text)`` fails unless ``text`` is what the file holds; a missing file fails too."""

    def compare(name: str, actual: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8")
        if not path.exists():
            pytest.fail(f"{path} is missing; read this, then run with --update-golden:\n{actual}")
        assert actual == path.read_text(encoding="utf-8"), f"differs from {path}; --update-golden writes it anew"

    return compare
