"""No descriptors, no further process or thread, a helper that stands still: told in a line, and nothing is held up."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.live.started import Started, alive, children, helper_of, limited, started, status, told_ticks
from tests.support.lab import Lab
from tests.support.leftovers import wait_until

SOON_S = 2.0


@pytest.mark.parametrize("many", [10, 25, 30])
def test_too_few_descriptors_for_the_program_itself(many: int) -> None:
    """How few suffice depends on the kernel and on what is attached."""
    done = limited("--json", limit=f"--nofile={many}:{many}")
    if done.returncode or many == 10:
        assert done.returncode == 1
        assert done.stderr.startswith("tcptop-ops: ")
    assert "Traceback" not in done.stderr


def test_no_further_process_or_thread(tmp_path: Path) -> None:
    """Root is exempt, which the program gives up; another user can't even start."""
    assert len(told_ticks(limited("--json", "-f", "port = 1", limit="--nproc=0:0"))) == 2
    assert len(told_ticks(limited("--json", "--source", "sockdiag", limit="--nproc=0:0", as_user=65534))) == 2
    for words in (("--metrics", "127.0.0.1:0"), ("--record", str(tmp_path / "r"))):
        tmp_path.chmod(0o777)
        done = limited("--json", "--source", "sockdiag", *words, limit="--nproc=0:0", as_user=65534)
        assert done.returncode == 1
        assert done.stderr.startswith(("tcptop-ops: no thread can be started\nhint: ", "tcptop-ops: cannot record"))
    before = ("setpriv", "--reuid=65534", "--clear-groups", "prlimit", "--nproc=0:0")
    with started("--source", "sockdiag", before=before) as screen:
        assert screen.process.wait(20) == 1
        screen.wait_for("no thread can be started")
        assert "Traceback" not in screen.text()


def stop_helper(monitor: Started) -> int:
    pid = helper_of(monitor.pid)
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.parametrize("source", ["sockops", "sockdiag"])
def test_a_stopped_helper_holds_up_neither_ticks_nor_the_end(cgroup: Path, source: str) -> None:
    place = ("--cgroup", str(cgroup)) if source == "sockops" else ()
    with started("--source", source, *place, "--json", "-d", "0.2", "-f", "port = 1") as monitor:
        monitor.wait_for('"tick":3,')
        helper = stop_helper(monitor)
        begun = time.monotonic()
        monitor.wait_for('"tick":9,')
        assert time.monotonic() - begun < SOON_S + 1.2
        helper = stop_helper(monitor)
        begun = time.monotonic()
        monitor.press("\x03")
        assert monitor.process.wait(20) == 0
        assert time.monotonic() - begun < SOON_S
        wait_until(lambda: not alive(helper), SOON_S, "the helper's end")


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_helper_that_stands_still_outlives_no_killed_monitor(lab: Lab, cgroup: Path, how: str) -> None:
    """A frozen one ends as soon as it runs again."""
    with started("--cgroup", str(cgroup), "--json", "-d", "0.2", "-f", "port = 1") as monitor:
        monitor.wait_for('"tick":2,')
        helper = helper_of(monitor.pid)
        place = lab.cgroup("frozen")
        if how == "stopped":
            os.kill(helper, signal.SIGSTOP)
        else:
            (place / "cgroup.procs").write_text(str(helper))
            (place / "cgroup.freeze").write_text("1")
            monitor.wait_for("the helper is not answering")
        os.kill(monitor.pid, signal.SIGKILL)
        if how == "frozen":
            (place / "cgroup.freeze").write_text("0")
        wait_until(lambda: not alive(helper), SOON_S, "the helper's end")


def test_a_frozen_helper_does_not_hold_up_the_end(lab: Lab, cgroup: Path) -> None:
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        helper, place = helper_of(monitor.pid), lab.cgroup("frozen")
        (place / "cgroup.procs").write_text(str(helper))
        (place / "cgroup.freeze").write_text("1")
        monitor.wait_for("not answering")
        begun = time.monotonic()
        monitor.press("q")
        assert monitor.process.wait(20) == 0
        assert time.monotonic() - begun < SOON_S
        (place / "cgroup.freeze").write_text("0")
        wait_until(lambda: not alive(helper), SOON_S, "the helper's end")


def test_a_killed_helper_is_no_zombie(cgroup: Path) -> None:
    with started("--cgroup", str(cgroup), "--json", "-d", "0.2", "-f", "port = 1") as monitor:
        monitor.wait_for('"tick":2,')
        helper = helper_of(monitor.pid)
        os.kill(helper, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{helper}").exists(), SOON_S, "that somebody took note of its end")
        monitor.wait_for("the helper is gone")
        assert children(monitor.pid) == []
        assert status(monitor.pid)["State"][0] != "Z"
