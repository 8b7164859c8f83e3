"""What a compiled step says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch.fx

from tpopt.training.budget import shown
from tpopt.training.operations import Operations
from tpopt.training.plan import StepPlan

BARS: Final = " ▁▂▃▄▅▆▇█"
WIDTH: Final = 72


@dataclass(frozen=True)
class StepReport:
    """Peaks in bytes, times in seconds; ``live_bytes`` by operator, in the input order and as planned."""

    budget: int
    eager_peak: int
    input_live_bytes: tuple[int, ...]
    live_bytes: tuple[int, ...]
    seconds_once: float
    seconds_planned: float
    lower_bound_percent: float
    status: str
    repeated: tuple[tuple[str, str, int], ...]
    """Operator, line of the model, times that it runs again."""

    @staticmethod
    def of(operations: Operations, plan: StepPlan, *, budget: int, eager_peak: int) -> StepReport:
        """Collects the facts."""
        items = operations.items
        again = Counter((str(items[k].node.target), source_line(items[k].node)) for k in plan.repeated)
        return StepReport(
            budget,
            eager_peak,
            tuple(operations.live_bytes(range(len(items)))),
            plan.live_bytes,
            sum(op.seconds for op in items),
            sum(items[k].seconds for k in plan.sequence),
            plan.schedule.lower_bound_percent,
            plan.schedule.status,
            tuple((name, line, count) for (name, line), count in again.most_common()),
        )

    @property
    def extra_time_percent(self) -> float:
        """Predicted time of repeated operators, in percent of the time of all operators once."""
        return 100 * (self.seconds_planned / self.seconds_once - 1) if self.seconds_once else 0.0

    @property
    def planned_peak(self) -> int:
        """Bytes alive at the busiest operator of the plan."""
        return max(self.live_bytes, default=0)

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain values."""
        return {
            "budget": self.budget,
            "eager_peak": self.eager_peak,
            "planned_peak": self.planned_peak,
            "extra_time_percent": self.extra_time_percent,
            "lower_bound_percent": self.lower_bound_percent,
            "status": self.status,
            "live_bytes": list(self.live_bytes),
            "repeated": [{"operator": o, "line": line, "times": n} for o, line, n in self.repeated],
        }

    def __str__(self) -> str:
        from tpopt.report.render import table

        facts = (
            ("budget", shown(self.budget)),
            ("eager's peak", shown(self.eager_peak)),
            ("planned peak", shown(self.planned_peak)),
            ("extra time", f"{self.extra_time_percent:.2f} % (at least {self.lower_bound_percent:.2f} %)"),
            ("status", self.status),
            ("captured", picture(self.input_live_bytes, self._top)),
            ("planned", picture(self.live_bytes, self._top)),
        )
        repeated = [(f"{count} ×", name, line) for name, line, count in self.repeated]
        listed = table(("again", "operator", "line"), repeated) if repeated else "nothing is computed again"
        return f"{table(('step', ''), facts)}\n{listed}"

    @property
    def _top(self) -> int:
        return max(1, *self.input_live_bytes, *self.live_bytes)


def picture(live: Sequence[int], top: int) -> str:
    """Memory over time as a row of bars, the highest of each group of steps; ``top`` is a full bar."""
    count = min(WIDTH, len(live))
    groups = [live[k * len(live) // count : (k + 1) * len(live) // count] for k in range(count)]
    return "".join(BARS[round(max(group) / top * (len(BARS) - 1))] for group in groups)


def source_line(node: torch.fx.Node) -> str:
    """The line of the user's model that a node comes from, as far as the capture kept it."""
    trace = str(node.meta.get("stack_trace") or "").strip().splitlines()
    places = [line.strip() for line in trace if line.strip().startswith("File ")]
    own = [p for p in places if "eval_with_key" not in p and "/torch/" not in p]
    return own[-1].removeprefix("File ").replace('"', "") if own else ""
