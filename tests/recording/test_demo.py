"""The recording that ships with the package: whole, small, telling, and of nobody's machine."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing

import numpy as np
import pytest

from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.recording import demo
from tcptop_ops.recording.index import worst_moments
from tcptop_ops.recording.reader import RecordingReader
from tcptop_ops.tracking.tracker import Tracker

ON_ITS_OWN = (
    "import sys\n"
    "for name in ('bcc', 'tcptop_ops.sources.sockops', 'tcptop_ops.bpf.loader'): sys.modules[name] = None\n"
    "from tcptop_ops.cli.main import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


def play(*argv: str) -> str:
    """What --demo prints where there is neither bcc nor what attaches."""
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "TCPTOP_NO_CONFIG": "1"}
    command = [sys.executable, "-c", ON_ITS_OWN, "--demo", *argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_is_small() -> None:
    assert demo.PATH.stat().st_size < 1_000_000


def test_each_tick_can_be_read_and_it_shows_what_can_go_wrong() -> None:
    found: set[str] = set()
    with closing(RecordingReader(str(demo.PATH))) as reader:
        tracker, ticks = Tracker(), 0
        for snapshot in reader.snapshots():
            assert snapshot is not None
            flows = tracker.update(snapshot)
            bad = flows.live.rates["score"] >= 20
            found |= {CAUSES[code].name for code in np.unique(flows.live.rates["cause"][bad]).tolist()}
            ticks += 1
        assert ticks == len(reader.index) >= 80
        assert 10 < worst_moments(reader.index)[0] < len(reader.index) - 10
        assert reader.host == HostDescription("shop-1.example", "6.18.0", "demo")
    wanted = {"loss", "rto-stall", "dead-peer", "bufferbloat", "peer-not-reading", "syn-unanswered", "accept-queue"}
    assert wanted <= found


def test_nothing_of_the_machine_is_in_it() -> None:
    with closing(RecordingReader(str(demo.PATH))) as reader:
        told = b"".join(zlib.decompress(reader.frame(tick)) for tick in reader.index.number.tolist())
    with closing(sqlite3.connect(f"{demo.PATH.as_uri()}?immutable=1", uri=True)) as db:
        told += "\n".join(db.iterdump()).encode()
    here = [platform.node()] if len(platform.node()) > 5 else []  # a short one is found in any bytes
    for word in ("/tct", "/home/", "/root", "/tmp/", "pytest", platform.release(), *here):
        assert word.encode() not in told


def test_it_needs_no_bcc() -> None:
    table = play("--once", "--batch")
    assert "postgres" in table
    assert "192.0.2.10:443" in table
    lines = [json.loads(line) for line in play("--json", "-n", "3", "--speed", "max").splitlines()]
    assert [line["host"] for line in lines] == ["shop-1.example"] * 3


@pytest.mark.parametrize("option", [("--record", "f"), ("--replay", "f"), ("--cgroup", "/a"), ("--allow-close",)])
def test_what_excludes_it(option: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tcptop_ops", "--demo", *option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
