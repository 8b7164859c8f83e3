"""From a chosen plan to calls: library kernels today, generated kernels beside them."""
