"""SQL on a recording: the examples of the documentation, and the views."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tcptop_ops.model.enums import Origin
from tests.support.fakes import BOOT_NS, finals, flow, snapshot
from tests.support.recordings import record, world

DOCS = Path(__file__).parents[2] / "docs" / "recordings.md"


def examples() -> list[str]:
    """Those of the documentation."""
    return re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.fixture
def sql(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    record(tmp_path / "r", [world(second) for second in range(30)])
    with closing(sqlite3.connect(tmp_path / "r")) as db:
        yield db


def test_there_are_examples() -> None:
    assert len(examples()) >= 5


@pytest.mark.parametrize("example", examples())
def test_an_example_of_the_documentation(sql: sqlite3.Connection, example: str, tmp_path: Path) -> None:
    assert sql.execute(example).fetchall()
    if tool := shutil.which("sqlite3"):
        done = subprocess.run(
            [tool, "-readonly", str(tmp_path / "r"), example], text=True, capture_output=True, check=True
        )
        assert done.stdout


def test_the_views_tell_the_truth(sql: sqlite3.Connection) -> None:
    [[count, most]] = sql.execute("SELECT count(*), max(sockets) FROM ticks")
    assert (count, most) == (30, 20)
    found = dict(sql.execute("SELECT cookie, retrans_segs FROM flows WHERE is_open"))
    assert found == {cookie: 29 * (cookie % 3) for cookie in range(30, 50)}
    assert dict(
        sql.execute("SELECT cookie, end FROM flows WHERE NOT is_open AND cookie BETWEEN 1 AND 29")
    ) == dict.fromkeys(range(1, 30), "peer-closed")
    [[segments]] = sql.execute("SELECT sum(count) FROM events WHERE kind = 'retrans'")
    expected = sum(cookie % 3 for second in range(1, 30) for cookie in range(1 + second, 20 + second))
    assert segments == expected
    kinds = {kind for [kind] in sql.execute("SELECT DISTINCT kind FROM events")}
    assert {"retrans", "rto", "state", "closed"} <= kinds
    [[address, port, process]] = sql.execute("SELECT DISTINCT raddr, rport, process FROM flows WHERE is_open")
    assert (address, port, process) == ("10.0.0.2", 443, "nginx")


def test_each_birth_is_an_event_once(tmp_path: Path) -> None:
    """Also of one that was born while a poll was under way, and of one that was never there at a poll."""

    def born(cookie: int, seconds: float, **fields: int) -> dict[str, object]:
        return flow(cookie, first_ns=BOOT_NS + int(seconds * 1e9), **fields)

    before_start = [born(1, -5.0), flow(2, origin=Origin.ADOPTED)]
    between, seen, unseen, row_late = born(3, 0.5), born(4, 0.95), born(5, 0.96), flow(6, first_ns=0)
    was_open, short = born(7, -3.0), finals([born(8, 1.2)], BOOT_NS + 1_500_000_000)
    shots = [
        snapshot(0.0, before_start, poll_s=0.1),
        snapshot(1.0, [*before_start, between, seen, row_late], poll_s=0.1, opened=3),
        snapshot(2.0, [*before_start, between, seen, unseen, born(6, 0.93), was_open], short, poll_s=0.1, opened=3),
        snapshot(3.0, [*before_start, seen, unseen, born(6, 0.93), was_open], poll_s=0.1),
    ]
    record(tmp_path / "r", shots)
    with closing(sqlite3.connect(tmp_path / "r")) as db:
        told = db.execute("SELECT cookie, tick FROM event JOIN flow USING (flow) WHERE kind = 'opened'").fetchall()
        [[opened]] = db.execute("SELECT sum(opened) FROM ticks")
    assert sorted(told) == [(3, 1), (4, 1), (5, 2), (6, 2), (8, 2)]
    assert opened == len(told) + 1, "one that the full map turned away has no row"
