"""The finding of used ports: from which share on, its words, and what a filter leaves of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcptop_ops.diagnosis.findings.tell import Narrowed, findings
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.used_ports import USED_PORTS
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import flow, packed, snapshot


def flows(**told: Any) -> Flows:
    row = np.zeros(1, USED_PORTS)
    fields = {"raddr": packed("10.0.0.2"), "laddr": packed("10.0.0.1"), "netns": 7, "rport": 443}
    for name, value in (fields | {"port_low": 40000, "port_high": 40019} | told).items():
        row[name] = value
    shot = snapshot(0, [flow(1, netns=7)], used_ports=row, namespace_names={7: "blue"})
    return Tracker().update(shot)


@pytest.mark.parametrize(
    ("time_wait", "live", "words"),
    [
        (20, 0, "all 20 local ports to 10.0.0.2:443 are used: 20 in TIME-WAIT, 0 open; "),
        (4, 15, "19 of 20 local ports to 10.0.0.2:443 are used: 4 in TIME-WAIT, 15 open; "),
        (0, 18, ""),
    ],
)
def test_from_95_percent_on(time_wait: int, live: int, words: str) -> None:
    found = findings(flows(time_wait=time_wait, open=live))
    if not words:
        assert found == ()
        return
    [one] = found
    assert one.text == words + "net.ipv4.ip_local_port_range 40000 40019 in namespace blue"
    assert (one.blame, one.rows) == ("host", live)
    assert one.filter == "host = 10.0.0.2 and rport = 443 and netns = 7"


def test_a_filter_leaves_it_where_rows_of_its_namespace_are() -> None:
    made = flows(time_wait=20)
    assert findings(made, Narrowed(np.array([True]), "netns = 7")) != ()
    assert findings(made, Narrowed(np.array([False]), "netns = 8")) == ()
