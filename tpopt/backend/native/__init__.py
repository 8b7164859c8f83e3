"""Generated kernels in the user's process: loaded by tvm_ffi alone, their parallel loops on torch's threads."""
