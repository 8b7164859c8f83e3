"""What tpopt says while it works: one logger a stage, silent unless asked.

``TPOPT_LOGS="choose,+verify,-race"`` sends stages to stderr: a name at INFO, with ``+`` at DEBUG, with ``-`` nothing
but errors; ``all`` means every stage. ``TPOPT_TRACE=folder`` appends what happened to a file of that folder, one JSON
object a line: ``time`` (seconds since the epoch), ``stage``, ``event`` and its figures. Programs use :mod:`logging` as
usual, on the loggers ``tpopt.trace``, ``tpopt.choose`` and so on.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tpopt.errors import UnknownName

STAGES: Final = ("trace", "clean up", "choose", "verify", "race")
VARIABLE, FOLDER = "TPOPT_LOGS", "TPOPT_TRACE"
_LEVELS: Final[Mapping[str, int]] = {"+": logging.DEBUG, "-": logging.ERROR, "": logging.INFO}


def logger(stage: str) -> logging.Logger:
    """The logger of a stage."""
    return logging.getLogger(f"tpopt.{stage.replace(' ', '_')}")


def levels(text: str) -> dict[str, int]:
    """The level of each stage that ``TPOPT_LOGS`` names. Raises :class:`UnknownName` listing the stages."""
    names = {stage.replace(" ", "_"): stage for stage in STAGES}
    found: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        sign = part[0] if part[0] in "+-" else ""
        name = part.removeprefix(sign)
        if name != "all" and name not in names:
            raise UnknownName(f"stage in {VARIABLE}", name, ("all", *names))
        found.update(dict.fromkeys(STAGES if name == "all" else (names[name],), _LEVELS[sign]))
    return found


def configure(text: str) -> None:
    """Sends the stages that ``text`` names to stderr."""
    for stage, level in levels(text).items():
        target = logger(stage)
        target.setLevel(level)
        if not target.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(relativeCreated)8.0f ms  %(name)s  %(message)s"))
            target.addHandler(handler)
            target.propagate = False


def record(stage: str, event: str, **figures: Any) -> None:
    """Tells the stage's logger, and the trace where there is one, what happened."""
    said = " ".join(f"{k}={v}" for k, v in figures.items())
    logger(stage).info("%s%s", event, f" {said}" if said else "")
    folder = os.environ.get(FOLDER)
    if folder:
        line = json.dumps({"time": time.time(), "stage": stage, "event": event, **figures}, default=str)
        with suppress(OSError):  # a trace that cannot be written costs nothing but the trace
            Path(folder).mkdir(parents=True, exist_ok=True)
            with (Path(folder) / f"tpopt-{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
