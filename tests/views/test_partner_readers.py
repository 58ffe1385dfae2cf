"""The columns about the other end of a connection."""

from __future__ import annotations

import numpy as np

from tcptop_ops.explain import connection_facts
from tcptop_ops.model.enums import OwnerKind, State
from tcptop_ops.model.flows import Flows, row_of
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

A, B, C = ("10.0.0.1", 40000), ("10.0.0.2", 80), ("10.0.0.3", 80)


def tick() -> Flows:
    """A pair, a pair of which one end is no process's, one whose other end is elsewhere, and a closed one."""
    rows = [
        flow(1, local=A, peer=B, name=b"curl", pid=7, netns=1),
        flow(9, local=A, peer=("192.0.2.1", 80), netns=1),
        flow(2, local=B, peer=A, name=b"nginx", pid=8, netns=2, state=State.CLOSE_WAIT),
        flow(4, local=C, peer=A, name=b"", pid=0, netns=1, how=OwnerKind.UNKNOWN),
        flow(3, local=A, peer=C, name=b"wget", pid=6, netns=1),
    ]
    closed = finals([flow(5, local=A, peer=("10.0.0.4", 80))], BOOT_NS)
    return Tracker().update(snapshot(0, rows, closed, namespace_names={2: "web"}))


def test_the_process_of_the_other_end() -> None:
    flows = tick()
    column = find("partner")
    assert flows.column(column.read).tolist() == [b"nginx 8", b"", b"curl 7", b"wget 6", b"no process", b""]
    assert [column.plain(value) for value in flows.column(column.read)[:2]] == ["nginx 8", None]
    assert flows.column(find("partner_cookie").read).tolist() == [2, 0, 1, 3, 4, 0]


def test_of_single_rows() -> None:
    """A row that was taken out of all is found by its cookie."""
    flows = tick()
    found = [find("partner").read(row_of(flows, at), flows).tolist() for at in range(len(flows))]
    assert [one[0] for one in found] == flows.column(find("partner").read).tolist()
    none = flows.live.take(np.zeros(0, np.intp))
    assert find("partner").read(none, flows).tolist() == []
    assert find("partner_cookie").read(none, Tracker().update(snapshot(0, []))).tolist() == []


def test_in_words() -> None:
    flows = tick()
    end = connection_facts.other_end(row_of(flows, 0), flows)
    assert end is not None
    assert (end.cookie, end.label) == (2, "other end")
    assert end.words.startswith("nginx 8, CLOSE-WAIT in web, ")
    there = connection_facts.other_end(row_of(flows, 4), flows)
    assert there is not None
    assert there.words.startswith("no process, ESTAB, ")
    assert connection_facts.other_end(row_of(flows, 1), flows) is None
    assert connection_facts.other_end(row_of(flows, 5), flows) is None
