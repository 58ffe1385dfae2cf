"""How many sockets are in TIME-WAIT, of all namespaces together."""

from __future__ import annotations

from typing import cast

from tcptop_ops.host.socket_counts import Counts
from tcptop_ops.sources.sock_diag import SockDiag
from tcptop_ops.sources.time_wait import TimeWait


class Diag:
    """Counts 30 of them, for a tenth of a second of CPU."""

    cpu_s = 0.0
    asked = 0

    def count_time_wait(self) -> int:
        self.asked, self.cpu_s = self.asked + 1, self.cpu_s + 0.1
        return 30


def test_what_was_read_is_remembered_by_namespace() -> None:
    one, diag = TimeWait(), cast(SockDiag, Diag())
    assert one.learn({1: Counts(1, 2, 3), 2: Counts(0, 0, 4)}, lambda _: diag) == 7
    assert one.learn({1: Counts(1, 2, 0)}, lambda _: diag) == 4
    one.keep({1})
    assert one.learn({}, lambda _: diag) == 0
    assert cast(Diag, diag).asked == 0


def test_where_no_count_can_be_read_they_are_dumped_at_times() -> None:
    diag, now_s = Diag(), [0.0]
    one = TimeWait(lambda: now_s[0], lambda: diag.cpu_s)
    for _ in range(100):
        now_s[0] += 1
        assert one.learn({1: Counts(0, 0, 5), 2: None}, lambda _: cast(SockDiag, diag)) == 35
    assert 15 <= diag.asked <= 25


def test_a_namespace_that_is_gone_is_not_counted() -> None:
    def gone(_: int) -> SockDiag:
        raise OSError

    assert TimeWait().learn({2: None}, gone) == 0
