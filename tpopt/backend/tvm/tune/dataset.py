"""From tuning records to the arrays that a cost model learns from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tpopt.backend.generated.decisions import decode
from tpopt.backend.tvm.tune.collect import request_of_trial
from tpopt.backend.tvm.tune.features import NAMES, features
from tpopt.cost_models.ranking import Trials as Arrays
from tpopt.errors import KernelUnsupported
from tpopt.store.trials import Trial


def arrays(trials: Iterable[Trial]) -> Arrays:
    """The trials that ended well, a task for each kernel and device.

    What this version of tpopt would not plan any more is left out.
    """
    tasks: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.status == "done" and trial.decisions and trial.us and trial.ratio:
            tasks.setdefault((trial.kernel, trial.device), []).append(trial)
    rows, ratio, us, task = [], [], [], []
    families: list[str] = []
    for members in tasks.values():
        try:
            found = features(request_of_trial(members[0]), [decode(t.decisions) for t in members])
        except KernelUnsupported:
            continue
        rows.append(found)
        ratio += [np.log2(t.ratio or 1.0) for t in members]
        us += [t.us or 0.0 for t in members]
        task += [len(families)] * len(members)
        families.append(members[0].family)
    stacked = np.vstack(rows) if rows else np.zeros((0, 2 * len(NAMES)))
    return Arrays(stacked, np.array(ratio), np.array(us), np.array(task, dtype=np.int64), tuple(families))
