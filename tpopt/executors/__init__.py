"""Work that runs somewhere else: in local worker processes, or on a Ray cluster; see docs/tuning.md."""
