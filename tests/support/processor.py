"""What a test needs of the processor it runs on."""

from __future__ import annotations

import pytest

from tpopt.backend.machine import integers_are_exact, narrow_products

exact_integers = pytest.mark.skipif(
    not integers_are_exact(), reason="sums of products of bytes saturate on this processor, which has no VNNI"
)
bf16_products = pytest.mark.skipif(not narrow_products(), reason="oneDNN has no bf16 products on this processor")
