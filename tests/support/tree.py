"""Where the parts of the checkout are, for tests about the checkout itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAPPED = {"tpopt": ROOT / "tpopt", "tpopt.passes": ROOT / "passes", "tpopt.cost_models": ROOT / "cost_models"}
"""The packages that have a folder of their own, and those folders."""


def modules() -> dict[str, Path]:
    """Returns every module of the distribution, by its import name, with its file; packages under their own name."""
    found = {}
    for package, folder in MAPPED.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = file
    return found


def packages() -> list[str]:
    """Returns the import name of every folder that holds Python files, sorted."""
    folders = {file.parent for file in modules().values()}
    return sorted(
        ".".join((package, *folder.relative_to(home).parts))
        for package, home in MAPPED.items()
        for folder in folders
        if folder.is_relative_to(home)
    )


def files_of_the_project() -> list[Path]:
    """Returns every file that is, or is about to be, under version control."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file())
