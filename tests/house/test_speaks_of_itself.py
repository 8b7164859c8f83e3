"""The project speaks of itself alone: not of the places, tools and conversations in which it was written."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT, files_of_the_project

# Each pattern has a character class, so that this file does not match itself.
FOREIGN = re.compile(
    r"[c]laude|[a]nthropic|[c]hatgpt|[c]opilot|\bthis [s]ession\b|[s]ession id|\bissue #?[0-9]|[d]evelopers\.md|"
    r"[s]hared/(?:design|style|reference|data)|\.\./[s]hared|(?<![\w)\]])\.[l]ibrary\b|/[w]ork/(?:main|shared)|/tmp/[s]pec",
    re.IGNORECASE,
)
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".cfg", ".yml", ".yaml", ".cpp", ".h", ""}


FOREIGN_WORDS = [
    ".." + "/shared/x",
    "Clau" + "de",
    "in /wor" + "k/main",
    "issue " + "2",
    "DEVELOPERS" + ".md",
    "/." + "library/x",
]


@pytest.mark.parametrize("text", FOREIGN_WORDS)
def test_the_pattern_finds_what_it_should(text: str):
    assert FOREIGN.search(text)


@pytest.mark.parametrize("text", ["from tpopt.backend.library import linear", "torch.library.define"])
def test_a_module_named_library_is_no_foreign_place(text: str):
    assert FOREIGN.search(text) is None


def test_no_file_speaks_of_anything_else():
    texts = {file: file.read_text(encoding="utf-8") for file in files_of_the_project() if file.suffix in TEXT}
    assert {str(file.relative_to(ROOT)): m.group() for file, text in texts.items() if (m := FOREIGN.search(text))} == {}
