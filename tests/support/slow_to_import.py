"""Takes a second to import."""

from __future__ import annotations

import time

time.sleep(1.0)
