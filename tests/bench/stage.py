"""A screen to be measured: ``python -m tests.bench.stage ROWS CHANGED DELAY_S``, in a terminal.

ROWS connections, of which so many of the first 40 change from tick to tick; the source costs nothing, all behind it is
the real thing.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.view import Spec
from tests.support.fakes import flow, snapshot

VISIBLE = 40
HOURS_NS = 5 * 3600 * 1_000_000_000


class Stage:
    """A source of connections that are alike but for their round-trip time."""

    name = "stage"

    def __init__(self, rows: int, changed: int) -> None:
        later_s = HOURS_NS / 1e9  # an age that does not change with each tick
        self._first = snapshot(later_s, [flow(cookie + 1) for cookie in range(rows)])
        self._changed, self._tick = changed, 0
        self._random = np.random.default_rng(1)

    def poll(self) -> Snapshot:
        """Another second."""
        self._tick += 1
        sockets = self._first.sockets
        which = self._random.choice(VISIBLE, self._changed, replace=False)
        sockets["cwnd"][which] += 1
        sockets["srtt_us"][which] ^= 3 << 12
        return replace(self._first, now_ns=self._first.now_ns + self._tick * 1_000_000_000, time=time.time())

    def watch(self, cookie: int) -> None:
        """Nothing."""

    def measure(self, on: bool) -> None:
        """Nothing."""

    def close_connection(self, sock: Records) -> None:
        """Nothing."""

    def drain(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def main() -> None:
    rows, changed, delay_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    spec = Spec(sort=find("cookie"), falling=False)
    app = TcptopApp(polled(Stage(rows, changed), Tracker()), spec, delay_s=delay_s, host="stage")
    app.run_screen()


if __name__ == "__main__":
    main()
