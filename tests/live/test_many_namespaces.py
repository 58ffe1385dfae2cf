"""Very many network namespaces: all are seen, and of those that there is no descriptor for it is told how many."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tcptop_ops.host.namespaces import InProcessAccess, NamespaceAccess, widest
from tests.live.started import limited, told_ticks
from tests.support.lab import Lab, Traffic

MANY = 150
"""sock_diag walks the table of all sockets of the host for each."""

LISTENERS = """
import ctypes, socket, sys, threading

libc = ctypes.CDLL(None, use_errno=True)
held, go_on = [], threading.Event()


def stay():
    if libc.unshare(0x40000000):
        raise OSError(ctypes.get_errno(), "unshare")
    listener = socket.create_server(("", 7))
    held.append(listener)
    go_on.wait()


threading.stack_size(1 << 16)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=stay, daemon=True).start()
while len(held) < int(sys.argv[1]):
    go_on.wait(0.01)
print("ready", flush=True)
sys.stdin.read()
"""
"""So many threads, each in a network namespace of its own, in which it listens."""


@contextmanager
def listening(count: int) -> Iterator[None]:
    """So many network namespaces, in each of which somebody listens on port 7."""
    with Lab() as lab:
        Traffic(lab.popen(None, [sys.executable, "-I", "-c", LISTENERS, str(count)])).expect("ready", 60)
        yield


@pytest.fixture(scope="module")
def listeners() -> Iterator[None]:
    with listening(MANY):
        yield


WAYS = pytest.mark.parametrize(
    "words", [(), ("--source", "sockdiag"), ("--no-helper",)], ids=["bpf", "polled", "alone"]
)


@WAYS
@pytest.mark.usefixtures("listeners")
def test_the_limit_is_raised_as_far_as_it_may_be(words: tuple[str, ...]) -> None:
    last = told_ticks(limited("--json", "-f", "port = 7 and state = LISTEN", *words, limit="--nofile=64:1024"))[-1]
    assert len({row["netns"] for row in last["connections"]}) == MANY
    assert not any("descriptors" in note for note in last["notes"])


@WAYS
@pytest.mark.usefixtures("listeners")
def test_few_descriptors(words: tuple[str, ...]) -> None:
    last = told_ticks(limited("--json", "-f", "port = 7", *words, limit="--nofile=64:64"))[-1]
    [note] = [note for note in last["notes"] if "network namespaces are not seen" in note]
    assert MANY - 64 < int(note.split()[0]) <= MANY + 64
    assert "ulimit -n" in note


@pytest.mark.parametrize("access", [widest, InProcessAccess], ids=["helper", "threads"])
def test_a_thousand(access: type[NamespaceAccess]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    opened: list[socket.socket] = []
    try:
        with listening(1_000):
            reach = access()
            try:
                found = reach.namespaces(thoroughly=True)
                opened += map(reach.diag, found)
                assert len(found) > 1_000
                assert "descriptors" not in reach.note
            finally:
                reach.close()
    finally:
        for each in opened:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
