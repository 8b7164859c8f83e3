"""From a user's model to tensor algebra: :func:`tpopt.frontend.trace.trace` is the door.

Nothing is imported here: torch.export and sympy take half a second, and the library kernels need no more from this room
than the geometry of windows.
"""
