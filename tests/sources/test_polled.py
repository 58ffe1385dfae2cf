"""The source that polls sock_diag: what opens and closes between two dumps, and what it cannot tell."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from collections import deque
from contextlib import closing
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.errors import Failed
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import OWNED, SOCKET, UNKNOWN_U32, Records
from tcptop_ops.sources.inet_diag import INFO, Dump
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.sources.sock_diag import SockDiag
from tests.support.sock_diag import FakeNetlink, Opened, failure, is_same, split


def test_the_source(opened: Opened) -> None:
    with closing(SockDiagSource()) as source:
        watch(source, opened)


def watch(source: SockDiagSource, opened: Opened) -> None:
    first = source.poll()
    assert opened.listener.getsockname()[1] in first.sockets["lport"]
    assert (first.source, first.opened, len(first.closed)) == ("sockdiag", 0, 0)
    assert len(first.sockets) == len(first.events) == len(first.owners)
    assert (first.owners.dtype, first.counters.shape) == (OWNED, ())
    assert set(first.sockets["netns"].tolist()) == {os.stat("/proc/self/ns/net").st_ino}
    assert first.users[os.getuid()] == pwd.getpwuid(os.getuid()).pw_name
    assert {"end", "direction", "pid"} <= first.missing
    assert all("\n" not in note for note in first.notes)
    kept = first.sockets.copy()
    with socket.create_connection(opened.listener.getsockname()) as client:
        inode = os.fstat(client.fileno()).st_ino
        second = source.poll()
        assert is_same(first.sockets, kept)  # until the poll after this one
        assert inode in second.sockets["inode"]
        assert second.opened >= 2
    server, _ = opened.listener.accept()  # the one that was never accepted; after it comes ours
    server.close()
    opened.listener.accept()[0].close()
    third = source.poll()
    (gone,) = third.closed[third.closed["socket"]["inode"] == inode]
    assert (gone["ending"]["from_state"], gone["ending"]["error"]) == (State.ESTABLISHED, UNKNOWN_U32)
    assert gone["ending"]["end_ns"] == third.now_ns
    source.drain()


class Script:
    """Dumps one after the other, in place of a SockDiag."""

    def __init__(self, *dumps: Dump) -> None:
        self.dumps = deque(dumps)

    def dump(self, **_rows: object) -> Dump:
        return self.dumps.popleft()

    def devices(self, _sockets: Records) -> dict[int, str]:
        return {}

    def close(self) -> None:
        pass


def rows(*cookies: int, state: State = State.ESTABLISHED) -> Records:
    made = np.zeros(len(cookies), SOCKET)
    made["cookie"], made["state"], made["lport"] = cookies, state, [cookie + 1000 for cookie in cookies]
    return made


class ByPort:
    """Owners whose pids are the local ports."""

    note = "by port"

    def of(self, sockets: Records) -> Records:
        found = np.zeros(len(sockets), OWNED)
        found["pid"] = sockets["lport"]
        return found

    of_closed = of


@given(st.lists(st.sets(st.integers(1, 30)), min_size=2, max_size=6))
def test_opened_and_closed_add_up(polls: list[set[int]]) -> None:
    source = SockDiagSource(cast(SockDiag, Script(*(Dump(rows(*cookies)) for cookies in polls))))
    before = polls[0]
    assert source.poll().opened == 0
    for cookies in polls[1:]:
        snapshot = source.poll()
        assert set(snapshot.closed["socket"]["cookie"].tolist()) == before - cookies
        assert snapshot.opened == len(cookies - before)
        before = cookies


def test_a_poll_that_fails_leaves_the_last_snapshot_as_it_is(captured: list[bytes]) -> None:
    fake = FakeNetlink(*captured)
    source = SockDiagSource(SockDiag(cast(socket.socket, fake)))
    first = source.poll()
    kept = first.sockets.copy()
    message = next(m for m in split(captured) if len(m) > 88)
    fake.datagrams = (message[:17] + b"\x01\x00" + message[19:], failure(errno.EINVAL))
    for _ in range(2):
        with pytest.raises(Failed):
            source.poll()
    assert is_same(first.sockets, kept)
    fake.datagrams = tuple(captured)
    assert (source.poll().opened, len(source.poll().closed)) == (0, 0)


def test_what_comes_and_goes_between_polls() -> None:
    last = rows(9, 2, state=State.CLOSE_WAIT)
    dumps = Dump(rows(3, 1, 2)), Dump(last, time_wait=4), Dump(rows())
    source = SockDiagSource(cast(SockDiag, Script(*dumps)), ByPort())
    source.poll()
    second = source.poll()
    assert second.closed["socket"]["cookie"].tolist() == [3, 1]
    assert second.closed["socket"]["lport"].tolist() == [1003, 1001]
    assert second.closed_owners is not None
    assert second.closed_owners["pid"].tolist() == [1003, 1001]
    assert (second.opened, second.time_wait) == (1, 4)
    third = source.poll()
    assert third.closed["ending"]["from_state"].tolist() == [State.CLOSE_WAIT] * 2
    assert third.opened == 0


def test_a_socket_told_twice_counts_once() -> None:
    source = SockDiagSource(cast(SockDiag, Script(Dump(rows(5, 3, 5, 1, 3)), Dump(rows(5, 3, 1, 7, 7)))))
    assert source.poll().sockets["cookie"].tolist() == [5, 3, 1]
    second = source.poll()
    assert (second.sockets["cookie"].tolist(), second.opened, len(second.closed)) == ([5, 3, 1, 7], 1, 0)


def test_owners_are_asked_for_where_given() -> None:
    snapshot = SockDiagSource(cast(SockDiag, Script(Dump(rows(5, 3)))), ByPort()).poll()
    assert snapshot.owners["pid"].tolist() == [1005, 1003]
    assert not {"pid", "process", "command"} & snapshot.missing
    assert "by port" in snapshot.notes


def test_what_older_kernels_do_not_tell_is_missing() -> None:
    old = Dump(rows(1), info_bytes=104)
    notes = SockDiagSource(cast(SockDiag, Script(old))).poll()
    assert {"cgroup", "bytes_acked", "rto_events", "delivery_bytes_per_s", "rcv_wnd"} <= notes.missing
    assert any("104 bytes" in note for note in notes.notes)
    now = SockDiagSource(cast(SockDiag, Script(replace(old, info_bytes=INFO.itemsize, cgroups=True)))).poll()
    assert not {"bytes_acked", "rto_events"} & now.missing
