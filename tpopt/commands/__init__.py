"""The leaves of the command line, one file each. Parsing and printing; the work is done elsewhere."""
