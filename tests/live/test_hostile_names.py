"""A thousand processes with hostile names, in control groups with hostile names: harmless wherever they are shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tcptop_ops.app.application import TcptopApp
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.outputs.json_lines import json_line
from tcptop_ops.outputs.text_table import table
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.view import Spec, View, make
from tests.live.watch import Watch
from tests.support import hostile
from tests.support.fakes import FakeSource
from tests.support.lab import Lab, Traffic
from tests.support.leftovers import wait_until
from tests.support.screens import next_tick, shown_tick

COUNT = 1000
DIRECTORIES = 40
PATIENCE_S = 60
NAMES = hostile.names(COUNT)
COLUMNS = "process,cgroup,service,user,pid,srtt"
KEEPS_ITS_BACKSLASH = [name for name in NAMES if b"\\" in name]


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    """A monitor of all of them, connected."""
    with Lab() as lab:
        home = lab.cgroup("watched")
        with Watch(home) as made:
            disguised(lab, home)
            wait_until(lambda: len(clients(made.rows())) == COUNT, PATIENCE_S, "all connections, with their owners")
            yield made


def disguised(lab: Lab, home: Path) -> Traffic:
    """The processes, in as many control groups as there are hostile names for."""
    places = [os.fsencode(home) + b"/" + name for name in hostile.directories(DIRECTORIES)]
    for place in places:
        os.mkdir(place)
    argv = [sys.executable, "-I", hostile.__file__, str(COUNT), "x" * 200]
    started = Traffic(lab.popen(lab.namespace("crowd"), argv, cgroup=home))
    for n, name in enumerate(NAMES):
        tail = b"-with-a-tail" if len(name) >= hostile.COMM else b""
        started.tell(" ".join(word.hex() for word in (name, name + tail, places[n % DIRECTORIES])))
    started.expect("connected", PATIENCE_S)
    return started


def clients(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the processes, not the far ends."""
    return [row for row in rows if row["direction"] == "out" and row["owner"] == "holder"]


def is_harmless(shown: str) -> bool:
    return all(" " <= c <= "~" for c in shown) and cell_len(shown) == len(shown)


def view_of(watch: Watch) -> View:
    return make(watch.tick(), Spec(columns=parse_list(COLUMNS), sort=find("cookie"), falling=False))


def comm_of(pid: int) -> bytes:
    """The name that the kernel has now."""
    return Path(f"/proc/{pid}/comm").read_bytes()[:-1]


def test_json_tells_each_name(watch: Watch) -> None:
    line = json_line(view_of(watch), HostDescription("box", "6"), {})
    assert is_harmless(line.removesuffix("\n"))
    rows = clients(json.loads(line)["connections"])
    comms = [comm_of(row["pid"]) for row in rows]
    assert sorted(comms) == sorted(NAMES)
    whole = 0
    for row, comm in zip(rows, comms, strict=True):
        if row["process"] != comm.decode("utf-8", "replace"):
            assert (comm + b"-with-a-tail")[:32].decode("utf-8", "replace") == row["process"]
            whole += 1
    assert whole
    assert len({row["cgroup"] for row in rows}) == DIRECTORIES


def test_the_batch_table_stays_in_line_and_tells_them_apart(watch: Watch) -> None:
    shown = table(view_of(watch), None)
    _, header, *rows, end = shown.splitlines()
    assert end == ""
    assert all(map(is_harmless, rows))
    assert {len(row) for row in rows} == {len(header)}
    cells = {row[: header.index("CGROUP")].rstrip() for row in rows}
    assert len(cells) >= COUNT - len(KEEPS_ITS_BACKSLASH)


async def test_the_screen_stays_in_line(watch: Watch) -> None:
    source = FakeSource([watch.tick().snapshot])
    for columns in (COLUMNS, "process,peer,state,srtt"):
        spec = Spec(columns=parse_list(columns), sort=find("process"), falling=False)
        app = TcptopApp(polled(source, Tracker()), spec, delay_s=3600, host="box")
        async with app.run_test(size=(120, 60)) as pilot:
            await shown_tick(pilot, 0)
            seen = 0
            for _ in range(0, 2 * COUNT, 50):
                strips = app.screen._compositor.render_strips()
                assert {strip.cell_length for strip in strips} == {120}
                assert all(is_harmless(strip.text) for strip in strips)
                seen += sum("\\x1b" in strip.text for strip in strips)
                await pilot.press("pagedown")
            await next_tick(pilot)
            assert seen > 50


@pytest.mark.parametrize("option", ["--batch", "--json"])
def test_the_program_writes_nothing_but_ascii(watch: Watch, option: str) -> None:
    argv = [sys.executable, "-m", "tcptop_ops", "--once", "-d", "0.1", option, "-c", COLUMNS]
    done = subprocess.run([*argv, "--cgroup", watch.source.attached.cgroup], capture_output=True, check=True)
    assert set(done.stdout) <= {0x0A, *range(0x20, 0x7F)}
    assert done.stdout.count(b"\\u202e") > 10
    if option == "--json":
        rows = json.loads(done.stdout)["connections"]
        assert sum(row["owner"] == "holder" and row["state"] == "ESTAB" for row in rows) == 2 * COUNT


def test_a_control_group_with_a_hostile_name_can_be_named(watch: Watch) -> None:
    """Its path comes back in what is told of it, and can't steer a terminal."""
    home = watch.source.attached.cgroup
    name = os.fsdecode(next(name for name in hostile.directories(DIRECTORIES) if b"\x1b" in name))
    argv = [sys.executable, "-m", "tcptop_ops", "--once", "-d", "0.1", "--batch", "--cgroup", f"{home}/{name}"]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert set(done.stdout + done.stderr) <= {0x0A, *range(0x20, 0x7F)}
    refused = subprocess.run([*argv[:-1], f"{home}/{name}\x1b[31mnot"], capture_output=True, check=False)
    assert refused.returncode == 2
    assert set(refused.stderr) <= {0x0A, *range(0x20, 0x7F)}
    assert b"Traceback" not in refused.stderr
