"""A monitor without a front end, attached to a cgroup of the test's own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np

from tcptop_ops.bpf.attach import Options
from tcptop_ops.host.descriptors import PolledOwners
from tcptop_ops.host.namespaces import widest
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records
from tcptop_ops.outputs.json_lines import connections
from tcptop_ops.sources.namespace_dump import EveryNamespace
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.sources.sockops import SockOpsSource
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view
from tests.support.lab import Lab, Traffic
from tests.support.leftovers import wait_until

WORKERS = Path(__file__).with_name("workers.py")
HOLDERS = Path(__file__).with_name("holders.py")


def program(
    lab: Lab, ns: str | None, cgroup: Path, *words: str | int, before: tuple[str, ...] = (), of: Path = WORKERS
) -> Traffic:
    """A program of workers.py or another file, ready; the words ``before`` start it (unshare, say)."""
    argv = [*before, sys.executable, "-I", str(of), *map(str, words)]
    started = Traffic(lab.popen(ns, argv, cgroup=cgroup))
    started.port = int(started.expect("ready"))
    return started


class Watch:
    """Ticks on demand. Rows are what --json tells of them."""

    def __init__(self, cgroup: Path, *, polled: bool = False, **options: Any) -> None:
        """``polled``: by sock_diag alone, all sockets of the host."""
        if polled:
            reach = widest()
            owners = PolledOwners(reach.descriptors, reach.hidden_descriptors)
            self.source = cast(SockOpsSource, SockDiagSource(EveryNamespace(reach), owners, reach))
        else:
            self.source = SockOpsSource(Options(**{"cgroup": str(cgroup), "reader": "descriptors"} | options))
        self.tracker = Tracker(window_s=20, closed_s=60)
        self.flows: Flows = self.tracker.update(self.source.poll())

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.source.close()

    def tick(self) -> Flows:
        self.flows = self.tracker.update(self.source.poll())
        return self.flows

    def rows(self) -> list[dict[str, Any]]:
        """All rows of a new tick."""
        return connections(view.make(self.tick(), view.Spec()))

    def open(self, lport: int) -> dict[str, Any]:
        """The live connection with this local port, of a new tick."""
        [row] = [r for r in self.rows() if r["lport"] == lport and r["closed_s"] is None and r["state"] != "LISTEN"]
        return row

    def closed(self, lport: int) -> dict[str, Any]:
        """The closed connection with this local port, waited for."""

        def there() -> list[dict[str, Any]]:
            return [r for r in self.rows() if r["lport"] == lport and r["closed_s"] is not None and r["rport"]]

        return wait_until(there, what=f"a closed connection from port {lport}")[0]

    def lists(self, lport: int) -> bool:
        """Whether there is such a connection, in a new tick."""
        sockets = self.tick().live.sockets
        return bool(((sockets["lport"] == lport) & (sockets["rport"] != 0)).any())

    def events(self, lport: int) -> Records:
        """The row of EVENTS of the connection with this local port, live or closed, of a new tick."""
        flows = self.tick()
        for rows in (flows.live, flows.closed):
            at = np.flatnonzero((rows.sockets["lport"] == lport) & (rows.sockets["rport"] != 0))
            if len(at):
                found: Records = rows.events[at[0]]
                return found
        raise AssertionError(f"no row with local port {lport}")

    def flags(self, lport: int) -> int:
        """The callback flags that the iterator found on this live connection."""
        sockets = self.tick().live.sockets
        [at] = np.flatnonzero((sockets["lport"] == lport) & (sockets["rport"] != 0))
        return int(sockets["cb_flags"][at])

    def everybody(self) -> Records:
        """SOCKET rows of all sockets that a descriptor shows, those of directories that are gone, too."""
        walk = self.source.walk
        assert walk is not None
        return walk.walk().records

    def calls(self, operator: int) -> int:
        """Calls of an operator so far."""
        return int(self.tick().snapshot.counters["calls"][operator])
