"""What the kernel spends in the program, as its statistics tell: nanoseconds of a call, a connection, an exchange."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from tcptop_ops.bpf import syscall
from tcptop_ops.bpf.attach import Options
from tcptop_ops.sources.sockops import SockOpsSource
from tests.bench import load
from tests.bench.figures import Line, Nonsense, Note, figure
from tests.bench.load import BULK, EXCHANGE, SHORT, Kind, Load
from tests.bench.setting import Setting, place

CALLBACKS = ("all", "events", "every")
UNITS = {EXCHANGE: "an exchange", SHORT: "a connection", BULK: "a MiB"}
POLL_S = 0.25  # as often as the ring is drained


class Spent:
    """Of one kind of traffic: nanoseconds and calls of each run, and what was done."""

    def __init__(self) -> None:
        self.ns_a_call: list[float] = []
        self.ns_each: list[float] = []
        self.calls_each: list[float] = []

    def add(self, kind: Kind, before: tuple[int, int], after: tuple[int, int], done: int) -> None:
        """One run. Raises Nonsense where the program was not called."""
        ns, calls = after[0] - before[0], after[1] - before[1]
        if calls <= 0 or ns <= 0:
            raise Nonsense(f"{kind.name}: the program was not called")
        each = done / (1 << 20) if kind == BULK else done
        self.ns_a_call.append(ns / calls)
        self.ns_each.append(ns / each)
        self.calls_each.append(calls / each)


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    with load.built() as program:
        if program is None:
            yield Note(load.NO_COMPILER)
            return
        with place() as where:
            load.ready(where.ns)
            loads = [Load(where.lab, program, kind, load.loopback(where.ns), where.cgroup) for kind in UNITS]
            for callbacks in CALLBACKS[:1] if setting.quick else CALLBACKS:
                options = Options(cgroup=str(where.cgroup), callbacks=callbacks, reader="sock_diag")
                with closing(SockOpsSource(options)) as source:
                    source.measure(True)
                    yield from spent(source, loads, setting, callbacks)


def spent(source: SockOpsSource, loads: list[Load], setting: Setting, callbacks: str) -> Iterator[Line]:
    """Of each load. The final records are taken out between the runs."""
    fd = source.attached.fds["program"]
    for one in loads:
        found = Spent()
        for _ in range(setting.of(11, 3)):
            source.poll()
            before = syscall.run_statistics(fd)
            done, _ = one.done(int(POLL_S * 1000))
            settled(fd)
            found.add(one.kind, before, syscall.run_statistics(fd), done)
        head, unit = f"--callbacks {callbacks}, {one.kind.name}", UNITS[one.kind]
        yield figure(f"{head}: of a call", "ns", found.ns_a_call)
        yield figure(f"{head}: of {unit}, both ends", "ns", found.ns_each)
        yield figure(f"{head}: calls for {unit}, both ends", "calls", found.calls_each)


def settled(fd: int) -> None:
    """Until the last connections are closed at both ends: nothing was called for a hundredth of a second."""
    before = None
    while (now := syscall.run_statistics(fd)) != before:
        before = now
        time.sleep(0.01)
