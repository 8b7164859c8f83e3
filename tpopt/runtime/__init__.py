"""What runs a plan: the executor, its buffers, its guards, and the callable that users hold."""
