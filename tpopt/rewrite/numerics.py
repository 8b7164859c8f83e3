"""How far a rewrite may move the numbers: one ordered scale for rules, passes and candidates."""

from __future__ import annotations

from enum import IntEnum


class Numerics(IntEnum):
    """Labels in order of freedom; a sequence of rewrites has the largest label among them.

    =============  ===========================================================  ============================
    label          means                                                        admitted when
    =============  ===========================================================  ============================
    exact          bit for bit the same                                         always
    rounding       equal but for rounding a constant once                       always
    reassociating  equal over the reals, another order of sums                  by default
    conditioning   equal over the reals, larger rounding error (Winograd, FFT)  the measured error is small
    approximate    not equal; carries an error model                            the user names a budget
    =============  ===========================================================  ============================
    """

    EXACT = 0
    ROUNDING = 1
    REASSOCIATING = 2
    CONDITIONING = 3
    APPROXIMATE = 4

    @property
    def label(self) -> str:
        """The name in reports and documents, such as ``rounding``."""
        return self.name.lower()

    def __str__(self) -> str:
        return self.label
