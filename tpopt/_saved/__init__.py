"""Compiled models as files: :func:`tpopt.load` and ``CompiledModel.save``. docs/format.md describes the file."""
