"""The pipelines by name: tuples of passes in order."""

from __future__ import annotations

from typing import Final

from tpopt.passes.collapse_deltas import CollapseDeltas
from tpopt.passes.common_subexpressions import CommonSubexpressions
from tpopt.passes.dead_code import DeadCode
from tpopt.passes.derive.derive import Derive
from tpopt.passes.fold_affine import FoldAffine
from tpopt.passes.fold_constants import FoldConstants
from tpopt.passes.inline_views import InlineViews
from tpopt.passes.merge_shared_gemms import MergeSharedGemms
from tpopt.passes.simplify import Simplify
from tpopt.rewrite import Pass

NONE: Final[tuple[Pass, ...]] = ()

# Exact, whatever the weights are: for programs that are trained, or verified bit for bit.
CLEANUP: Final[tuple[Pass, ...]] = (
    DeadCode(),  # so that no pass below works on what nobody wants
    Simplify(),  # before anything compares terms
    InlineViews(),  # a view that is gone separates no producer from its reader
    Simplify(),  # composed indices and guards meet bounds that they did not know before
    CommonSubexpressions(),  # after views, which hide that two stages are equal
    DeadCode(),  # what the passes above left behind
)

DEFAULT: Final[tuple[Pass, ...]] = (
    *CLEANUP,
    CollapseDeltas(),  # what is left of a sum over one term is a view or a plain product
    InlineViews(),  # so that the product stands beside its batch norm
    FoldConstants(),  # weight norms and quantized weights become the plain weights that the next pass looks for
    FoldAffine(),  # batch norms and scales go into the weights beside them
    MergeSharedGemms(),  # after folding: the weights and biases to join are those that will run
    InlineViews(),  # the slices of a merged product go into their readers
    FoldConstants(),  # scaled and joined weights get their values
    CommonSubexpressions(),  # equal weights that folding made
    DeadCode(),  # the weights that others took the place of
    Derive(),  # changes nothing: it offers other programs for parts of what the passes above made
)
