"""``python -m tpopt`` is the ``tpopt`` command."""

from __future__ import annotations

from tpopt.cli import main

if __name__ == "__main__":
    main()
