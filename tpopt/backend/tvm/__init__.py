"""The code generator: the only place that imports TVM. It runs in build workers."""
