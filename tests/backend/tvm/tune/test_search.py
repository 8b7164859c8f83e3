"""The tuning loop on workers that only pretend to measure, and one real search."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from tpopt.backend.generated.decisions import decode
from tpopt.backend.generated.machine import Processor, host_processor
from tpopt.backend.generated.tuned import LEAST_GAIN, device
from tpopt.backend.tvm.tune.collect import collect, measure
from tpopt.backend.tvm.tune.dataset import arrays
from tpopt.backend.tvm.tune.features import NAMES
from tpopt.backend.tvm.tune.search import Tuner
from tpopt.backend.tvm.tune.tasks import drawn
from tpopt.backend.tvm.tune.trial import MODULES, try_kernels
from tpopt.errors import CorruptFile, TpoptError
from tpopt.executors.jobs import Answer, Call
from tpopt.executors.local import LocalWorkers
from tpopt.store.trials import Trial, Trials

TASK = drawn("product", 0, Processor())


class Pretend:
    """One worker that answers at once. ``law`` says the ratio of a decision, or how its process ends."""

    def __init__(self, law: Any) -> None:
        self.law, self.tried, self._answers = law, [], []

    def free(self) -> Mapping[str, str]:
        return {} if self._answers else {"one": "cpu"}

    def start(self, slot: str, call: Call) -> None:
        asked = pickle.loads(call.item)
        rows = [self.law(d, asked["rounds"]) for d in asked["decisions"]]
        self.tried += asked["decisions"]
        ended = next((r for r in rows if isinstance(r, str)), None)
        values = [r if isinstance(r, dict) else figures(r) for r in rows]
        done = Answer("done", cloudpickle.dumps(values)) if ended is None else Answer(ended, reason="as told")
        self._answers.append((slot, done))

    def wait(self, seconds: float) -> list[tuple[str, Answer]]:
        found, self._answers = self._answers, []
        return found

    def abandon(self, slot: str) -> None: ...

    def close(self) -> None: ...


def figures(ratio: float) -> dict[str, float]:
    return {"us": 10 * ratio, "base_us": 10.0, "ratio": ratio, "low": ratio, "high": ratio}


def accumulators(text: str) -> int:
    return int(np.prod(decode(text)[0].counts))


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path / "trials.db")


def test_a_better_point_is_found_confirmed_and_kept(trials: Trials):
    workers = Pretend(lambda d, _: 1.5 - 0.03 * accumulators(d))
    (found,) = Tuner(workers, trials).tune([TASK], seconds=60)
    assert accumulators(found.decisions) >= 24
    assert found.ratio == 1.5 - 0.03 * accumulators(found.decisions) < 1 - LEAST_GAIN
    assert trials.winners(device(TASK.request.processor), LEAST_GAIN) == {TASK.request.identity: found.decisions}


def test_luck_is_not_kept(trials: Trials):
    """Every way looks a little better at first, and none is when it is measured again."""
    workers = Pretend(lambda d, rounds: 0.9 if rounds < 10 else 1.0)
    (found,) = Tuner(workers, trials).tune([TASK], seconds=60)
    assert (found.decisions, found.ratio) == ("", 1.0)
    best = workers.tried[-1]
    assert best not in trials.winners(device(TASK.request.processor), LEAST_GAIN).values()


def test_what_is_never_better_changes_nothing(trials: Trials):
    (found,) = Tuner(Pretend(lambda d, _: 1.2), trials).tune([TASK], seconds=60)
    assert (found.decisions, found.ratio, found.failed) == ("", 1.0, 0)
    assert trials.winners(device(TASK.request.processor), 0.0) == {}


def test_a_search_goes_on_from_the_records(trials: Trials):
    first = Pretend(lambda d, _: 1.2)
    Tuner(first, trials).tune([TASK], seconds=60)
    second = Pretend(lambda d, _: 1.2)
    Tuner(second, trials).tune([TASK], seconds=60)
    assert not set(first.tried) & set(second.tried)


def test_crashes_are_kept_and_cost_their_neighbours_nothing(trials: Trials):
    points = list(map(str, range(3)))
    wanted = [(TASK, text) for text in points]
    found = measure(Pretend(lambda d, _: "crash" if d == "1" else 1.0), wanted, "here")
    assert [(t.decisions, t.status) for t in found] == [("0", "done"), ("1", "crash"), ("2", "done")]
    assert found[1].reason == "as told"


def test_an_error_of_one_decision_is_its_own():
    found = measure(Pretend(lambda d, _: {"error": "no"} if d == "1" else 1.0), [(TASK, "0"), (TASK, "1")], "here")
    assert [(t.status, t.reason) for t in found] == [("done", ""), ("error", "no")]


def test_the_ranker_leads(trials: Trials):
    """A ranker that knows the law needs few trials to the best; one that is upside down does not find it."""

    class Knows:
        def __init__(self, sign: float) -> None:
            self.sign = sign

        def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            said = -self.sign * features[:, NAMES.index("accumulators")]
            return said, np.zeros(len(said))

    reached = []
    for number, sign in enumerate((1.0, -1.0)):
        workers = Pretend(lambda d, _: 1.5 - 0.01 * accumulators(d))
        Tuner(workers, Trials(trials.path.with_name(f"{number}.db")), Knows(sign)).tune([TASK], seconds=60)
        reached.append(float(np.mean([accumulators(d) for d in workers.tried[8:16]])))
    assert reached[0] > reached[1] + 8


def test_collection_does_not_measure_twice(trials: Trials):
    workers = Pretend(lambda d, _: 1.0)
    asked: dict[str, Any] = {"kinds": ("product", "points"), "seeds": range(2), "each": 8}
    done = collect(workers, trials, Processor(), **asked)
    assert done.measured == len(workers.tried) == len(trials.of(done=True)) >= 24
    assert collect(workers, trials, Processor(), **asked).measured == 0


def test_records_become_arrays(trials: Trials):
    collect(Pretend(lambda d, _: 2.0), trials, Processor(), kinds=("product",), seeds=range(3), each=8)
    found = arrays(trials.of(done=True))
    assert found.features.shape == (len(trials.of()), 2 * len(NAMES))
    assert set(found.ratio) == {1.0}
    assert len(found.groups()) == 3


def test_a_winner_must_surely_be_better(trials: Trials):
    rows = {"a": (0.9, 0.95), "b": (0.8, 1.05), "c": (0.7, 0.75)}
    for text, (ratio, high) in rows.items():
        trials.put([Trial("k", text, "d", "n", "f", "r", "done", "", 1.0, ratio, ratio, high)])
    trials.put([Trial("k", "c", "d", "n", "f", "r", "crash")])  # measured again, it crashed
    assert trials.winners("d", 0.03) == {"k": "a"}
    assert trials.winners("elsewhere", 0.03) == {}


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "t.db").write_bytes(b"no database at all, though long enough to look" * 200)
    with pytest.raises(CorruptFile, match="no tuning records"):
        Trials(tmp_path / "t.db")


def test_a_trial_measures_and_verifies_for_real():
    task = drawn("points", 0, replace(host_processor(), threads=1))
    texts = list(map(_encoded, task.request.space.sample(3, seed=0)))
    workers = LocalWorkers(1, modules=MODULES)
    found = measure(workers, [(task, t) for t in (*texts, "[[9,9]]")], "here", rounds=3)
    workers.close()
    assert [t.status for t in found] == ["done", "done", "done", "error"]
    assert all(t.us and t.ratio and t.low and t.high and t.low <= t.ratio <= t.high for t in found[:3])
    assert "says no loops" in found[3].reason


def test_integers_that_may_be_places_are_not_made_up():
    from tpopt.backend.generated.request import KernelRequest
    from tpopt.ir.parse import parse_program

    program = parse_program("program p(x: i64[4])\ny: i64[4] = L[i:4] x[i] + x[i]\nreturn y")
    request = KernelRequest.of(program, (), Processor())
    with pytest.raises(TpoptError, match="places"):
        try_kernels({"request": request.encode().decode(), "decisions": [], "rounds": 3})


def _encoded(point: Any) -> str:
    from tpopt.backend.generated.decisions import encode

    return encode(point)
