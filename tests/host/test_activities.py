"""What processes do: real ones, and a real /proc; a cgroup that is frozen needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf.proc_walk import TICK_NS, stat_of
from tcptop_ops.host import activities
from tcptop_ops.host.activities import Activities
from tcptop_ops.model.enums import State
from tcptop_ops.model.processes import process_keys
from tcptop_ops.model.records import OWNED, SOCKET, Records
from tests.support.leftovers import MARK, cgroup2_mount, wait_until

Start = Callable[[str], subprocess.Popen[bytes]]

BUSY = "while True: pass"
ASLEEP = "import sys; sys.stdin.read()"
WITHOUT_FIRST_THREAD = """
import ctypes, threading, sys
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def started(code: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-I", "-c", code], stdin=subprocess.PIPE)
            stack.callback(end, process)
            return process

        yield started


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def sockets(count: int = 1, **fields: int) -> Records:
    made = np.zeros(count, SOCKET)
    made["cookie"], made["state"], made["recv_q"] = np.arange(1, count + 1), State.ESTABLISHED, 300
    for name, value in fields.items():
        made[name] = value
    return made


def owned(*pids: int) -> Records:
    made = np.zeros(len(pids), OWNED)
    for row, pid in zip(made, pids, strict=True):
        name, stat = stat_of(pid)
        row["pid"], row["name"], row["start_ns"] = pid, name, int(stat[19]) * TICK_NS
    return made


def told(of: Activities, rows: Records, owners: Records) -> list[str]:
    found = of.read(rows, owners)
    return [found.get(key, "") for key in process_keys(owners).tolist()]


def does(process: subprocess.Popen[bytes], word: str, of: Activities | None = None) -> None:
    """Wait until that is told of it."""
    looks = of or Activities(None)
    wait_until(lambda: told(looks, sockets(), owned(process.pid))[0].startswith(word), what=f"a process that is {word}")


def test_running_sleeping_stopped(start: Start) -> None:
    does(start(BUSY), activities.RUNNING)
    process = start(ASLEEP)
    does(process, activities.SLEEPING)
    process.send_signal(signal.SIGSTOP)
    does(process, activities.STOPPED)
    process.send_signal(signal.SIGCONT)
    does(process, activities.SLEEPING)


def test_a_first_thread_that_ended_says_nothing_of_the_others(start: Start) -> None:
    process = start(WITHOUT_FIRST_THREAD)
    wait_until(lambda: stat_of(process.pid)[1][0] == b"Z", what="a first thread that has ended")
    does(process, activities.SLEEPING)


def test_a_zombie(start: Start) -> None:
    process = start("")
    assert process.stdin
    process.stdin.close()
    does(process, activities.ZOMBIE)


@contextmanager
def frozen(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """In a cgroup of its own; yields the mount."""
    mount = cgroup2_mount()
    if os.geteuid() != 0 or mount is None:
        pytest.skip("needs root and cgroup v2")
    directory = Path(mount) / f"{MARK}{os.getpid()}-frozen"
    directory.mkdir()
    try:
        (directory / "cgroup.procs").write_text(str(process.pid))
        (directory / "cgroup.freeze").write_text("1")
        yield str(mount)
    finally:
        (directory / "cgroup.freeze").write_text("0")
        end(process)
        wait_until(lambda: not (directory / "cgroup.procs").read_text(), what="an empty cgroup")
        directory.rmdir()


def test_a_frozen_cgroup(start: Start) -> None:
    process = start(ASLEEP)
    with frozen(process) as mount:
        does(process, activities.FROZEN, Activities(mount))


def test_of_which_sockets_the_owners_are_looked_at() -> None:
    """Those with bytes of which none were taken since the last look, CLOSE-WAIT, and listeners with a queue."""
    me = owned(os.getpid())
    of = Activities(None)
    assert told(of, sockets(bytes_received=300), me) == [""]
    assert told(of, sockets(bytes_received=300), me) != [""]
    assert told(of, sockets(bytes_received=400), me) == [""]  # it took some
    assert told(of, sockets(bytes_received=500, recv_q=400), me) != [""]  # only more came
    assert told(of, sockets(recv_q=0), me) == [""]
    assert told(Activities(None), sockets(state=State.LISTEN, recv_q=1), me) != [""]
    assert told(Activities(None), sockets(state=State.LISTEN, recv_q=0), me) == [""]
    assert told(Activities(None), sockets(state=State.CLOSE_WAIT, recv_q=0), me) != [""]


def test_a_process_that_is_gone_hidden_or_another_by_now() -> None:
    waiting = sockets(state=State.CLOSE_WAIT)
    other = owned(os.getpid())
    other["start_ns"] += 5 * TICK_NS
    gone = owned(os.getpid())
    gone["pid"] = 2**22 + 7
    nobody = np.zeros(1, OWNED)
    for rows in (other, gone, nobody):
        assert told(Activities(None), waiting, rows) == [""]


def test_of_many_processes_some_a_tick_in_turn(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(activities, "MOST_A_TICK", 2)
    rows = owned(*(start(ASLEEP).pid for _ in range(3)))
    of = Activities(None)
    waiting = sockets(3, state=State.CLOSE_WAIT)
    assert sum(map(bool, told(of, waiting, rows))) == 2
    assert all(told(of, waiting, rows))
