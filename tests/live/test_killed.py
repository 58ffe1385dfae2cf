"""Ended in every way at any moment: nothing stays in the kernel, and the terminal is as before."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tcptop_ops.bpf import kernel_calls
from tcptop_ops.bpf.attach import ALL_FLAGS, TRACEPOINTS, Options, begin
from tests.live.conftest import accepted
from tests.live.started import LEAVES_ALTERNATE_SCREEN, SHOWS_CURSOR, Started, alive, children, helper_of, started
from tests.live.watch import Watch, program
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import wait_until

MOMENTS = int(os.environ.get("TCPTOP_MOMENTS", "2"))
"""For each way to end it; 20 were tried for each before a release."""

WITHIN_S = 3.0
SEED = 20261122
SOON = 20.0
FLAGS_GONE_S = 1.0
FRONTS = ((), ("--json", "-d", "0.2", "-f", "port = 1"))
CATCHABLE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


@pytest.fixture
def load(lab: Lab, link: Link, cgroup: Path) -> Traffic:
    """A connection that stays open, and many that come and go, all of the cgroup that is watched."""
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    held = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    held.expect("connected")
    busy = program(lab, link.b.ns, cgroup, "hang-up", "--count", 1, "--address", "127.0.0.1")
    words = ("--count", 1, "--each", 10_000_000, "--address", "127.0.0.1", "--port", busy.port)
    program(lab, link.b.ns, cgroup, "burst", *words).tell("go")
    return held


def attached(cgroup: Path) -> list[int]:
    fd = os.open(cgroup, os.O_RDONLY)
    try:
        return kernel_calls.programs_at(fd)[0]
    finally:
        os.close(fd)


def family(monitor: Started) -> list[int]:
    """The monitor and whom it started."""
    return [monitor.pid, *children(monitor.pid)]


def gone(pids: list[int], cgroup: Path) -> bool:
    return not attached(cgroup) and not any(alive(pid) for pid in pids)


def flags(cgroup: Path, held: Traffic) -> int:
    """What an iterator reads back from the connection that stayed open."""
    with Watch(cgroup, adopt=False) as watch:
        return watch.flags(held.port) & ALL_FLAGS


def given_back(cgroup: Path, held: Traffic) -> bool:
    """Whether none of our flags is left on it, where the kernel lets anybody take them back."""
    return "HAVE_ADOPTION" not in accepted() or flags(cgroup, held) == 0


def temporary_files() -> set[str]:
    """Of root, directly in the place for them; those of the tests bear names."""
    return {entry.name for entry in os.scandir(tempfile.gettempdir()) if entry.stat(follow_symlinks=False).st_uid == 0}


def end_by(signal_number: int) -> Callable[[Started], None]:
    return lambda monitor: os.kill(monitor.pid, signal_number)


def stop_and_go_on(monitor: Started) -> None:
    os.kill(monitor.pid, signal.SIGSTOP)
    time.sleep(0.2)  # not a condition: that is how long it stands still
    os.kill(monitor.pid, signal.SIGCONT)
    os.kill(monitor.pid, signal.SIGTERM)


def as_a_service_is_stopped(monitor: Started) -> None:
    """One signal to all processes at once."""
    for pid in [*children(monitor.pid), monitor.pid]:
        os.kill(pid, signal.SIGTERM)


def close_the_terminal(monitor: Started) -> None:
    monitor.close_terminal()


def kill_the_child_first(monitor: Started) -> None:
    """The loader, or the helper that it became; then the monitor is asked to end."""
    for pid in children(monitor.pid):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    os.kill(monitor.pid, signal.SIGTERM)


ENDS = {
    **{signal.Signals(number).name: end_by(number) for number in (*CATCHABLE, signal.SIGKILL, signal.SIGQUIT)},
    "SIGABRT": end_by(signal.SIGABRT),
    "stopped": stop_and_go_on,
    "service": as_a_service_is_stopped,
    "terminal": close_the_terminal,
    "loader": kill_the_child_first,
}


@pytest.mark.parametrize("how", ENDS)
def test_at_any_moment_nothing_stays(cgroup: Path, load: Traffic, how: str) -> None:
    """Random moments from the first instruction on: importing, compiling, attaching, polling.

    Flags that one moment leaves are found at the end: what a later monitor finds set, it does not take away.
    """
    rng = random.Random(f"{SEED} {how}")
    files = temporary_files()
    for number, moment in enumerate(sorted(rng.uniform(0.0, WITHIN_S) for _ in range(MOMENTS))):
        print(f"seed {SEED}, {how} after {moment:.3f} s")
        monitor = Started("--cgroup", str(cgroup), *FRONTS[number % 2])
        try:
            time.sleep(moment)
            pids = family(monitor)
            ENDS[how](monitor)
            monitor.process.wait(SOON)
            wait_until(lambda pids=pids: gone(pids, cgroup), SOON, f"the end of all after {moment:.3f} s")  # type: ignore[misc]
        finally:
            monitor.close()
    assert temporary_files() <= files
    if how != "loader":  # whoever could have done it is dead
        wait_until(lambda: given_back(cgroup, load), SOON, "our flags to go")


def traced(pid: int) -> dict[str, int]:
    """The raw tracepoints that a process holds open, and the id of the program of each (bpf_link_show_fdinfo())."""
    found = {}
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        told = dict(line.split(":", 1) for line in entry.read_text().splitlines() if ":" in line)
        if "tp_name" in told:
            found[told["tp_name"].strip()] = int(told["prog_id"])
    return found


def exists(program: int) -> bool:
    try:
        os.close(kernel_calls.bpf(kernel_calls.BPF_PROG_GET_FD_BY_ID, kernel_calls.words(program)))
    except FileNotFoundError:
        return False
    return True


def test_tracepoints_go_with_the_monitor(cgroup: Path) -> None:
    """It alone holds them: its helper does not, which outlives it for a moment."""
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        programs = traced(monitor.pid)
        assert programs.keys() == set(TRACEPOINTS)
        assert all(map(exists, programs.values()))
        assert traced(helper_of(monitor.pid)) == {}
        os.kill(monitor.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(exists, programs.values())), SOON, "the end of the programs")


def test_a_monitor_that_ends_before_its_loader_answers(cgroup: Path, link: Link, lab: Lab) -> None:
    """The program is attached already: a connection that is made meanwhile has flags, which somebody must take back."""
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    pending = begin(Options(cgroup=str(cgroup), reader="descriptors"))
    assert pending is not None
    loader = pending.child.process
    try:
        while not attached(cgroup):
            assert loader.poll() is None
        os.kill(loader.pid, signal.SIGSTOP)
        client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
        client.expect("connected")
    finally:
        pending.child.connection.close()
        os.kill(loader.pid, signal.SIGCONT)
        loader.wait(SOON)
    assert attached(cgroup) == []
    assert given_back(cgroup, client)


def test_within_a_second_of_sigkill_the_flags_are_gone(cgroup: Path, load: Traffic) -> None:
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        helper_pid = helper_of(monitor.pid)
        os.kill(monitor.pid, signal.SIGKILL)
        begun = time.monotonic()
        wait_until(lambda: not alive(helper_pid), SOON, "the helper's end")
        assert time.monotonic() - begun < FLAGS_GONE_S
    assert attached(cgroup) == []
    assert given_back(cgroup, load)


@pytest.mark.parametrize("number", CATCHABLE, ids=lambda number: signal.Signals(number).name)
def test_the_terminal_is_as_before(cgroup: Path, number: int) -> None:
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        assert termios.tcgetattr(monitor.far)[3] & termios.ECHO == 0
        os.kill(monitor.pid, number)
        assert monitor.process.wait(SOON) == 0
        wait_until(lambda: LEAVES_ALTERNATE_SCREEN in monitor.written, what="the last bytes")
        assert termios.tcgetattr(monitor.far) == monitor.modes
        assert monitor.written.rfind(SHOWS_CURSOR) > monitor.written.rfind(b"\x1b[?25l")
        assert b"Traceback" not in monitor.written


@pytest.mark.parametrize(("options", "shown"), [((), "s win"), (("--batch",), "sockets"), (("--csv",), "time,")])
def test_a_terminal_that_is_gone_without_a_signal_ends_it(
    cgroup: Path, load: Traffic, options: tuple[str, ...], shown: str
) -> None:
    """Below ``su -c`` it is in a session without a controlling terminal: nobody sends SIGHUP."""
    monitor = Started("--cgroup", str(cgroup), *options, before=("setsid", "--wait"))
    try:
        monitor.wait_for(shown)
        [pid] = children(monitor.pid)
        pids = [*family(monitor), *children(pid)]
        assert len(pids) == 3
        assert os.getsid(pid) == pid
        monitor.close_terminal()
        wait_until(lambda: gone(pids, cgroup), SOON, "the end of all")
    finally:
        for pid in filter(alive, children(monitor.pid)):
            os.kill(pid, signal.SIGKILL)
        monitor.close()
    wait_until(lambda: given_back(cgroup, load), SOON, "our flags to go")


def test_without_its_helper_it_goes_on_and_says_so(cgroup: Path) -> None:
    """Under load a graver note may stand before it."""
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        os.kill(helper_of(monitor.pid), signal.SIGKILL)
        wait_until(lambda: "helper is gone" in monitor.text(), SOON, "a word about it")
        assert alive(monitor.pid)
        monitor.press("q")
        assert monitor.process.wait(SOON) == 0
    assert attached(cgroup) == []


@pytest.mark.parametrize("megabytes", [60, 200, 450, 750])
def test_out_of_memory(cgroup: Path, load: Traffic, megabytes: int) -> None:
    """It may run, or end with a line, or with the interpreter's own last words: but nothing stays."""
    monitor = Started("--cgroup", str(cgroup), before=("prlimit", f"--as={megabytes << 20}"))
    try:
        with suppress(TimeoutError):
            wait_until(lambda: "s win" in monitor.text() or monitor.process.poll() is not None, 8)
        pids = family(monitor)
        if monitor.process.poll() is None:
            monitor.press("?")
            os.kill(monitor.pid, signal.SIGTERM)
        monitor.process.wait(SOON)
        wait_until(lambda: gone(pids, cgroup), SOON, "the end of all")
    finally:
        monitor.close()
    wait_until(lambda: given_back(cgroup, load), SOON, "our flags to go")
