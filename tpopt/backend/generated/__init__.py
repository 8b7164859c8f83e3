"""Generated kernels, seen from this side: what to generate, how it is laid out, the call. TVM is not needed here."""
