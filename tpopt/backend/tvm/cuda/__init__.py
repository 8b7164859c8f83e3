"""Writes kernels for CUDA: the same terms as on a CPU, one element a thread at a time."""
