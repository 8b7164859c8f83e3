"""One file for each family of operators; :func:`tpopt.frontend.registry.lowerings` collects them."""
