"""The passes: each file is one way to rewrite a Program, or to propose candidates for parts of it.

A pass is a frozen dataclass whose fields are its options; see ``tpopt.protocols.Pass``. It sees the IR and the
rewrite machinery and nothing else: no torch modules, no TVM, no frontend, no backend. This folder is
imported as ``tpopt.passes``.
"""
