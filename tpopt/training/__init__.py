"""Training steps as one graph: captured, scheduled within a memory budget, and run operator by operator."""
