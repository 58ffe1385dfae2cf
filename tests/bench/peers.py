"""What traffic loses to other tools that watch TCP, measured as for this program; or why that can't be."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import load
from tests.bench.figures import Line, Nonsense, Note, figure, ratios
from tests.bench.load import BULK, EXCHANGE, SHORT, Load
from tests.bench.setting import Place, Setting, place
from tests.support.leftovers import NETNS, wait_until

START_S = 20.0
KERNEL_TREE = Path("/lib/modules", os.uname().release, "build")
KHEADERS = Path("/sys/kernel/kheaders.tar.xz")


@dataclass(frozen=True)
class Peer:
    """A tool: the names that it is known by, its options, whether it compiles against the kernel's headers.

    ``sign``: what it prints once it is at work.
    """

    names: tuple[str, ...]
    options: tuple[str, ...]
    needs_headers: bool
    sign: bytes


def _bcc(name: str) -> tuple[str, ...]:
    """As Debian and Ubuntu call a tool of bcc, as Fedora and Arch install it."""
    return f"{name}-bpfcc", f"/usr/share/bcc/tools/{name}"


PEERS = (
    Peer(_bcc("tcplife"), (), True, b"PID"),
    Peer(_bcc("tcpstates"), (), True, b"SKADDR"),
    Peer(_bcc("tcpretrans"), (), True, b"racing"),
    Peer(_bcc("tcptop"), ("-C", "1"), True, b"racing"),
    Peer(("nethogs",), ("-t", "-d", "1", "lo"), False, b"efreshing"),
    Peer(("iftop",), ("-t", "-n", "-i", "lo"), False, b"istening on"),
)


def why_not(peer: Peer) -> str | None:
    """What keeps it from running here, or None."""
    if not any(map(shutil.which, peer.names)):
        return f"not installed ({' or '.join(peer.names)})"
    if peer.needs_headers and not (KERNEL_TREE.exists() or KHEADERS.exists()):
        return f"it needs the kernel's headers, and there is no {KERNEL_TREE}"
    return None


@contextmanager
def at_work(where: Place, peer: Peer) -> Iterator[None]:
    """The tool, in the namespace. Raises Nonsense where it ends."""
    command = next(filter(None, map(shutil.which, peer.names)))
    with tempfile.TemporaryFile() as output:
        argv = ["nsenter", f"--net={NETNS / where.ns}", "--", command, *peer.options]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "TERM": "dumb"}
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)

        def said() -> bytes:
            return os.pread(output.fileno(), 1 << 16, 0)

        try:
            wait_until(lambda: peer.sign in said() or process.poll() is not None, START_S, f"{peer.names[0]} at work")
            if process.poll() is None:
                yield
            if process.poll() is not None:
                raise Nonsense(f"{peer.names[0]} ended: {said()[-200:].decode(errors='replace').strip()}")
        finally:
            process.terminate()
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def compared(where: Place, program: Path, peer: Peer, setting: Setting) -> Iterator[Line]:
    """A ratio of each load."""
    here = load.loopback(where.ns)
    loads = [Load(where.lab, program, kind, here, where.cgroup) for kind in (EXCHANGE, SHORT, BULK)]
    found = load.pairs(loads, partial(at_work, where, peer), setting.of(7, 3), setting.of(600, 200))
    for one, rates in zip(loads, found, strict=True):
        yield figure(f"{peer.names[0]}: {one.name}", "ratio", ratios(rates.with_it, rates.without))


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    with load.built() as program:
        if program is None:
            yield Note(load.NO_COMPILER)
            return
        for peer in PEERS:
            if reason := why_not(peer):
                yield Note(f"{peer.names[0]}: {reason}")
                continue
            with place() as where:
                load.ready(where.ns)
                yield from compared(where, program, peer, setting)
