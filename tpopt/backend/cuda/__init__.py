"""Generated kernels on CUDA GPUs: their loops on blocks and threads, how they are built, loaded and launched."""
