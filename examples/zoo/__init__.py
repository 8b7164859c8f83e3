"""The benchmark models: plain PyTorch, fixed seeds, eval mode, fp32.

``tpopt bench --suite zoo`` runs them. A suite of your own is any module with a mapping named ``ZOO`` like this one::

    from zoo import load

    model, inputs = load("resnet18")
    model(*inputs)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from zoo.bert import bert
from zoo.csrnet import csrnet
from zoo.fno import fno2d
from zoo.fsrcnn import fsrcnn
from zoo.gans import dcgan, infogan
from zoo.gcn import gcn
from zoo.gpt2 import gpt2_decode, gpt2_prefill
from zoo.longformer import longformer
from zoo.mace import mace
from zoo.mobilenet import mobilenet_v2
from zoo.resnet import resnet18
from zoo.seeding import Example
from zoo.vit import vit_s16

__all__ = ["ZOO", "Example", "load", "zoo_names"]

ZOO: Final[Mapping[str, Callable[[], Example]]] = {
    builder.__name__: builder
    for builder in (
        resnet18,
        dcgan,
        infogan,
        fsrcnn,
        gcn,
        csrnet,
        longformer,
        fno2d,
        bert,
        mace,
        mobilenet_v2,
        vit_s16,
        gpt2_prefill,
        gpt2_decode,
    )
}
"""Each model by name: a function that builds the module and the positional inputs of one call."""


def zoo_names() -> tuple[str, ...]:
    """Lists the models in the order in which they are run."""
    return tuple(ZOO)


def load(name: str) -> Example:
    """Builds the model of that name and its inputs; the same ones every time."""
    if name not in ZOO:
        raise KeyError(f"no model {name!r} in the zoo; it has {', '.join(ZOO)}")
    return ZOO[name]()
