"""Sensitivities that were measured before: by the digest of weights, data and seed, in a folder of the user's cache.

A loss and a model are functions, which have no digest. What they do at these weights has: an entry's key holds the mean
loss and the norms of its gradient by weight, to six digits, so that another loss or another model on the same weights
and data is another entry. That costs one backward pass; what it saves are two for each probe or change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch

from tpopt.errors import UsageError
from tpopt.sensitivity import hessian, pairs
from tpopt.sensitivity.hessian import Estimate
from tpopt.sensitivity.objective import Objective
from tpopt.sensitivity.pairs import Changes
from tpopt.store.folder import CURVATURE, cache_folder
from tpopt.store.whole import write_whole

Kept = TypeVar("Kept")

MOST: Final = 1000
"""Entries of a few kilobytes each; beyond them the oldest go."""


class Curvature:
    """Traces and changes as :mod:`~tpopt.sensitivity.hessian` and :mod:`~tpopt.sensitivity.pairs` measure them, kept.

    Args:
        folder: where entries are; by default a room of the user's cache. An entry is a JSON file, written whole. What
            cannot be read counts as absent, and a folder that cannot be written costs the cache alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder(CURVATURE) if folder is None else folder

    def traces(self, objective: Objective, probes: int = 32, seed: int = 0) -> dict[str, Estimate]:
        """:func:`~tpopt.sensitivity.hessian.traces`."""
        return self._kept(
            key(objective, "traces", probes, seed),
            lambda: hessian.traces(objective, probes, seed),
            lambda found: [[name, asdict(value)] for name, value in found.items()],
            lambda entry: {str(name): Estimate(**value) for name, value in entry},
        )

    def changes(self, objective: Objective, deltas: Mapping[tuple[str, str], torch.Tensor]) -> Changes:
        """:func:`~tpopt.sensitivity.pairs.changes`."""
        return self._kept(
            key(objective, "changes", *((name, candidate, delta) for (name, candidate), delta in deltas.items())),
            lambda: pairs.changes(objective, deltas),
            lambda found: [found.keys, found.first.tolist(), found.second.tolist()],
            lambda entry: Changes(tuple((a, b) for a, b in entry[0]), np.array(entry[1]), np.array(entry[2])),
        )

    def _kept(
        self, name: str, measure: Callable[[], Kept], pack: Callable[[Kept], object], unpack: Callable[[Any], Kept]
    ) -> Kept:
        file = self.folder / f"{name}.json"
        with suppress(OSError, ValueError, TypeError, LookupError):
            return unpack(json.loads(file.read_text(encoding="utf-8")))
        found = measure()
        with suppress(OSError, UsageError):
            write_whole(file, json.dumps(pack(found)).encode())
            self._forget()
        return found

    def _forget(self) -> None:
        """Removes the oldest entries beyond :data:`MOST`."""
        entries = sorted((f.stat().st_mtime, f.name, f) for f in self.folder.glob("*.json"))
        for _, _, file in entries[:-MOST]:
            file.unlink(missing_ok=True)


def key(objective: Objective, *what: object) -> str:
    """The digest of an objective and of what is asked of it.

    Raises:
        UsageError: a target, or an argument, is neither a tensor, a number, a text nor a tuple of such.
    """
    digest = hashlib.blake2b(f"torch {torch.__version__}".encode(), digest_size=24)
    slopes = {name: float(g.double().norm()) for name, g in hessian.gradient(objective).items()}
    facts = [f"{objective.mean():.5e}", *(f"{name} {norm:.5e}" for name, norm in slopes.items())]
    batches = [(objective.size(inputs), inputs, targets) for inputs, targets in objective.batches]
    _feed(digest, (tuple(facts), tuple(objective.weights.items()), tuple(batches), what))
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, value: object) -> None:
    """Adds a value with its kind and its extent, so that no two values read the same."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, tuple):
        digest.update(f"tuple {len(value)}".encode())
        for part in value:
            _feed(digest, part)
    elif value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)} ".encode() + text)
    else:
        raise UsageError(f"cannot keep figures of a {type(value).__name__}: expected tensors, numbers, texts, tuples")
