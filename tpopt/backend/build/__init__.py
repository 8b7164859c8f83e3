"""Kernels are built in worker processes, so that a crash, a hang or a huge allocation costs a request and no more."""
