"""Ticks on demand, each step of them timed: ``python -m tests.bench.ticker CGROUP READER``, as root.

On a line ``tick`` it polls, compares and sorts as the program does at each tick, and says ``ticked`` and a JSON object:
rows, and for each step milliseconds of CPU and of the clock. The end of its input ends it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from tcptop_ops.bpf.attach import Options
from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.model.flows import Flows
from tcptop_ops.sources.sockops import SockOpsSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view

T = TypeVar("T")
Cost = dict[str, float]
IN_SIGHT = 45  # rows of a screen of 160x50


def timed(cost: Cost, step: str, do: Callable[[], T]) -> T:
    """What it returns; what it took is noted."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = do()
    cost[f"{step} wall"] = 1000 * (time.perf_counter() - wall)
    cost[f"{step} cpu"] = 1000 * (time.process_time() - cpu)
    return found


def shown(flows: Flows) -> view.View:
    """In order, and the values that the screen shows of those in sight."""
    made = view.make(flows, view.Spec())
    for column in made.spec.columns:
        made.values(column, 0, IN_SIGHT)
    return made


class Ticker:
    """A source and all that comes between it and the screen."""

    def __init__(self, source: SockOpsSource) -> None:
        self._source = source
        self._tracker = Tracker(window_s=20, closed_s=5)
        helper = source.attached.helper
        self._helper = None if helper is None else helper.process.pid

    def _helper_ms(self) -> float:
        if self._helper is None:
            return 0.0
        return int(Path(f"/proc/{self._helper}/schedstat").read_text().split()[0]) / 1e6

    def tick(self) -> Cost:
        """One tick, and its costs."""
        cost: Cost = {}
        helped = self._helper_ms()
        snapshot = timed(cost, "poll", self._source.poll)
        flows = timed(cost, "tracker", lambda: self._tracker.update(snapshot))
        timed(cost, "findings", lambda: findings(flows))
        timed(cost, "view", lambda: shown(flows))
        cost["helper cpu"] = self._helper_ms() - helped
        cost["rows"] = len(snapshot.sockets)
        return cost


def main() -> None:
    path, reader = sys.argv[1:]
    with closing(SockOpsSource(Options(cgroup=path, callbacks="all", reader=reader))) as source:
        ticker = Ticker(source)
        ticker.tick()
        print("ready", flush=True)
        for _ in sys.stdin:
            print("ticked", json.dumps(ticker.tick()), flush=True)


if __name__ == "__main__":
    main()
