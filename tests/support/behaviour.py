"""What a test job does: it ends well, or in one of the bad ways. Workers import this for each call: it is light."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def behave(item: dict[str, Any]) -> Any:
    """Twice ``n`` after ``sleep`` seconds, or what ``how`` says; ``log`` names a file that counts the runs."""
    if "log" in item:
        with Path(item["log"]).open("a") as file:
            file.write(f"{item.get('n')}\n")
    time.sleep(item.get("sleep", 0.0))
    match item.get("how"):
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(3600)
        case "memory":
            return len(bytearray(1 << 30))
        case "error":
            raise ValueError("no such thing")
        case "kill the worker":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
    return item.get("n", 0) * 2
