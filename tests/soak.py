"""The program at work for an hour, as a user runs it: ``python -m tests.soak [--minutes 60]``, as root.

Thousands of connections rest, thousands come and go each second, some through a network that loses packets, and
network namespaces appear and vanish. Meanwhile ``python -m tcptop_ops --json`` watches their cgroup: its lines are read
as they come, its memory and descriptors and those of its helper are sampled. A line a minute tells how it goes; in the
end come figures, and what was wrong. The exit status is 1 if anything was. docs/soak.md says what is held against it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import psutil

from tcptop_ops.bpf import helper, unsafe
from tcptop_ops.tracker import BAD_CLOSED_S
from tests.lab import Lab, Traffic, run, wait_until
from tests.live.watch import WORKERS
from tests.witness import ss_sockets

MAKER = Path(__file__).with_name("soak_traffic.py")
REST_PORT, SHORT_PORT, TALK_PORT = 7001, 7002, 7003  # below the ephemeral ones: nothing else has them in a lab
GROUP = 8_000
"""Connections of one process and its peer: some systems allow no more than 20,000 descriptors."""

LOSS_PERCENT = 2.0
LOSSY_SHARE = 0.05
"""Of the short connections; and TALKERS exchange 16 KiB a second with the same loss."""

TALKERS = 20
HALF_OPEN = 20
GROWTH_PERCENT = 3.0
PATIENCE_S = 120.0
LISTED = f"(port = {REST_PORT} and bytes_received > 1) or end = unseen"
"""Nothing, until the resting connections exchange their second byte: 20,000 rows a tick would measure the reader."""

AT_REST = {"LISTEN", "ESTAB", "TIME-WAIT", "SYN-RECV"}
"""The last two have no rows, and are counted for the whole host."""


@dataclass(frozen=True)
class Plan:
    """How long, and how much."""

    minutes: float = 60.0
    open: int = 10_000  # connections that rest; both ends are watched
    rate: float = 2_000.0  # short connections a second
    sample_s: float = 10.0
    visit_s: float = 4.0  # between two new namespaces
    delay_s: float = 1.0
    screen: bool = False

    @property
    def warm_up_s(self) -> float:
        """Five minutes of twenty or more, else a quarter; but longer than a bad closed row stays."""
        return min(300.0, max(self.minutes * 15, BAD_CLOSED_S + 10))


TWO_MINUTES = Plan(minutes=2, open=2_000, rate=500, sample_s=1)


# --- what is looked at, and judged: plain values


@dataclass(frozen=True)
class Tick:
    """What is kept of a line of --json."""

    number: int
    interval_s: float
    poll_s: float
    opened: int
    closed: int
    connections: int
    adopted: int
    untracked: int
    notes: tuple[str, ...]
    states: frozenset[str]
    unseen: int


def tick_of(line: dict[str, Any]) -> Tick:
    totals = line["totals"]
    return Tick(
        number=line["tick"],
        interval_s=line["interval_s"],
        poll_s=line["self"]["poll_ms"] / 1000,
        opened=totals["opened"],
        closed=totals["closed"],
        connections=totals["connections"],
        adopted=totals["adopted"],
        untracked=totals["untracked"],
        notes=tuple(note for note in line["notes"] if unsafe.CVE not in note),  # of this kernel: nothing went wrong
        states=frozenset(totals["by_state"]),
        unseen=sum(row["end"] == "unseen" for row in line["connections"]),
    )


@dataclass(frozen=True)
class Sample:
    """A process at one moment: resident KiB; descriptors; apart from them network namespaces, and sockets inside."""

    at_s: float
    rss_kib: int
    fds: int
    namespaces: int


@dataclass(frozen=True)
class Made:
    """What the traffic did since the first tick: connections, counted at both ends."""

    opened: int
    closed: int


@dataclass
class Report:
    """``violations``: what was wrong. ``left_out``: moments without a tick, as a machine that stands still has them."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    left_out: int = 0


def growth_percent(samples: Sequence[Sample]) -> float:
    """Of resident memory from the first to the last, by the median of all slopes (Theil and Sen)."""
    slopes = [
        (b.rss_kib - a.rss_kib) / (b.at_s - a.at_s) for a, b in itertools.combinations(samples, 2) if b.at_s > a.at_s
    ]
    if not slopes:
        return 0.0
    span = samples[-1].at_s - samples[0].at_s
    return 100 * statistics.median(slopes) * span / statistics.median(each.rss_kib for each in samples)


def memory_violations(name: str, samples: Sequence[Sample]) -> list[str]:
    """Of what came after the warm-up."""
    if len(samples) < 8:
        return [f"{name}: only {len(samples)} samples after the warm-up"]
    found = []
    if (growth := growth_percent(samples)) >= GROWTH_PERCENT:
        found.append(f"{name}: memory grew by {growth:.1f} %, {samples[0].rss_kib} to {samples[-1].rss_kib} KiB")
    quarter = len(samples) // 4
    first, last = samples[:quarter], samples[-quarter:]
    before, after = (statistics.median(each.fds for each in part) for part in (first, last))
    if after > before:  # medians: an iterator is open for a few milliseconds of each tick
        found.append(f"{name}: {before:g} descriptors became {after:g}")
    most, least = max(each.namespaces for each in first), min(each.namespaces for each in last)
    if least > most:  # they come and go, others' too: a leak is what never goes again
        found.append(
            f"{name}: descriptors of namespaces and sockets: at most {most} at first, at least {least} in the end"
        )
    return found


def memory_figures(name: str, samples: Sequence[Sample]) -> str:
    """What the summary says of them."""
    sizes = [each.rss_kib / 1024 for each in samples]
    fds, namespaces = ([getattr(each, of) for each in samples] for of in ("fds", "namespaces"))
    return (
        f"{name}: {min(sizes):.1f} to {max(sizes):.1f} MiB, growth {growth_percent(samples):+.2f} % in"
        f" {samples[-1].at_s - samples[0].at_s:.0f} s after the warm-up; descriptors {min(fds)} to {max(fds)},"
        f" of namespaces and sockets {min(namespaces)} to {max(namespaces)}"
    )


def left_out(ticks: Sequence[Tick], delay_s: float) -> int:
    """Moments of the beat without a tick. A poll that is late does not shift the ones after it, one left out does."""
    starts = [
        at - tick.poll_s for at, tick in zip(itertools.accumulate(t.interval_s for t in ticks), ticks, strict=True)
    ]
    late = [start - number * delay_s for number, start in enumerate(starts)]
    return round((statistics.median(late[-5:]) - statistics.median(late[:5])) / delay_s) if late else 0


def book_violations(ticks: Sequence[Tick], made: Made) -> list[str]:
    """Counts, to the one. Nothing had happened yet at the first of these ticks, and nothing goes on at the last."""
    first, last = ticks[0], ticks[-1]
    opened, closed = sum(t.opened for t in ticks[1:]), sum(t.closed for t in ticks[1:])
    left = first.connections + opened - closed
    wrong = {
        f"tick numbers {first.number} to {last.number}, but {len(ticks)} lines": last.number - first.number + 1
        != len(ticks)
        or any(b.number != a.number + 1 for a, b in itertools.pairwise(ticks)),
        f"opened {opened}, but {made.opened} connections were": opened != made.opened,
        f"closed {closed}, but {made.closed} sockets were": closed != made.closed,
        f"opened less closed leaves {left}, but {last.connections} are listed": left != last.connections,
        f"adopted {first.adopted} at first and {last.adopted} in the end": first.adopted != last.adopted,
        f"untracked {last.untracked}": last.untracked > 0,
        f"{sum(t.unseen for t in ticks)} rows whose end is unseen": any(t.unseen for t in ticks),
    }
    notes = Counter(note for tick in ticks for note in tick.notes)
    return [said for said, is_wrong in wrong.items() if is_wrong] + [f"{n} ticks: {note}" for note, n in notes.items()]


def row_violations(rows: list[dict[str, Any]], cookies: set[int], connections: int) -> list[str]:
    """Both ends of each resting connection, by the cookies that ss tells, and their two bytes."""
    told = Counter(row["cookie"] for row in rows)
    wrong = {
        f"{len(rows)} rows of {2 * connections} resting ends": len(rows) != 2 * connections,
        "a cookie twice": len(told) != len(rows),
        f"{len(cookies - told.keys())} that ss lists are missing": bool(cookies - told.keys()),
        f"{len(told.keys() - cookies)} that ss does not list": bool(told.keys() - cookies),
        "other bytes than the two that were sent": any(row["bytes_received"] != 2 for row in rows),
        "other states than ESTAB": any(row["state"] != "ESTAB" for row in rows),
    }
    return [said for said, is_wrong in wrong.items() if is_wrong]


# --- the monitor, as a user runs it


class Monitor(Protocol):
    """A monitor at work."""

    pid: int
    ended: threading.Event

    def ready(self) -> bool:
        """Whether it shows something."""
        ...

    def progress(self) -> str:
        """A few words for the line of the minute."""
        ...

    def end(self) -> list[str]:
        """End it as a user does; what was wrong with that."""
        ...

    def close(self) -> None:
        """Kill it, if it was not ended."""
        ...


COMMAND = (sys.executable, "-m", "tcptop_ops")


class JsonMonitor:
    """``--json``; its lines are taken in by a thread. ``rows``: the connections of the last one."""

    def __init__(self, lab: Lab, cgroup: Path, plan: Plan) -> None:
        words = ("--json", "-d", f"{plan.delay_s:g}", "--cgroup", str(cgroup), "--filter", LISTED)
        self._process = lab.popen(None, [*COMMAND, *words], stderr=subprocess.PIPE)
        self.pid = self._process.pid
        self.ended = threading.Event()
        self.ticks: list[Tick] = []
        self.rows: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.endswith("\n"):  # the end cut it
                break
            said = json.loads(line)
            self.rows = said["connections"]
            self.ticks.append(tick_of(said))
        self.ended.set()

    def ready(self) -> bool:
        return bool(self.ticks)

    def progress(self) -> str:
        ticks = list(self.ticks)
        opened, closed = sum(t.opened for t in ticks), sum(t.closed for t in ticks)
        return f"tick {ticks[-1].number} open {ticks[-1].connections} opened {opened} closed {closed}"

    def wait_tick(self, wanted: Callable[[Tick], bool], what: str) -> None:
        """Until a tick that is still to come is as wanted. Raises TimeoutError."""
        seen = len(self.ticks)
        wait_until(lambda: self.ended.is_set() or any(map(wanted, self.ticks[seen:])), PATIENCE_S, what)

    def end(self) -> list[str]:
        self._process.terminate()  # not SIGINT: a shell's background job ignores that one, and so do its children
        try:
            status = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return [f"did not end within {PATIENCE_S:g} s of SIGTERM"]
        self._reader.join()
        assert self._process.stderr
        complaint = self._process.stderr.read().strip()
        return [f"exit status {status}, {complaint=}"] if status or complaint else []

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()


class ScreenMonitor:
    """The screen, on a terminal of its own."""

    def __init__(self, cgroup: Path, plan: Plan) -> None:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        words = ("-d", f"{plan.delay_s:g}", "--cgroup", str(cgroup))
        # The terminal's session: it hangs up when we end, however we end.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color"},
        )
        os.close(theirs)
        self.pid = self._process.pid
        self.ended = threading.Event()
        self.drawn = self._told = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                got = os.read(self._terminal, 1 << 16)
            except OSError:  # EIO: nobody has the other side any more
                break
            if not got:
                break
            self.drawn += len(got)
        self.ended.set()

    def ready(self) -> bool:
        return self.drawn > 4_000

    def progress(self) -> str:
        last, self._told = self._told, self.drawn
        return f"drawn {self._told - last} bytes" + ("" if self._told > last else ": IT STANDS STILL")

    def end(self) -> list[str]:
        still = [] if self.drawn > self._told else ["the screen stood still"]
        with contextlib.suppress(OSError):  # it has ended already
            os.write(self._terminal, b"q")
        status = self._process.wait(PATIENCE_S)
        return still + ([f"exit status {status}"] if status else [])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._terminal)


def helper_of(pid: int) -> int:
    """The helper's pid. Raises ValueError when there is not exactly one child."""
    [child] = psutil.Process(pid).children()
    return child.pid


def sample(pid: int, at_s: float) -> Sample:
    """Raises OSError when it has ended."""
    process = Path(f"/proc/{pid}")
    [rss] = [line.split()[1] for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:")]
    targets = []
    for entry in os.scandir(process / "fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append((os.readlink(entry.path), os.stat(entry.path).st_dev))
    namespace_fs = os.stat("/proc/self/ns/net").st_dev  # a link names one by its file, if it has one
    namespaces = sum(device == namespace_fs or name.startswith("socket:") for name, device in targets)
    return Sample(at_s, int(rss), len(targets) - namespaces, namespaces)


# --- the traffic


class Rest:
    """Connections that rest, in groups of a server and a client with an address of their own."""

    def __init__(self, maker: Callable[..., Traffic], ns: str, count: int) -> None:
        self._shares = [min(GROUP, count - start) for start in range(0, count, GROUP)]
        addresses = [f"127.0.1.{1 + number}" for number in range(len(self._shares))]
        for address in addresses:
            maker(ns, "serve", address, REST_PORT)
        self._clients = [maker(ns, "rest", address, REST_PORT) for address in addresses]
        self.listeners = len(addresses)

    def open(self, first: bool) -> int:
        """Half of them, or the others: how many that were."""
        opened = 0
        for client, share in zip(self._clients, self._shares, strict=True):
            client.tell(f"open {share // 2 if first else share - share // 2}")
            opened += int(client.expect("opened", PATIENCE_S))
        return opened

    def touch(self) -> None:
        """The second byte, there and back, on each."""
        for client in self._clients:
            client.tell("touch")
        for client in self._clients:
            client.expect("touched", PATIENCE_S)


class Visits:
    """Namespaces that come and go, with a listener and a connection in each; two are there at a time."""

    def __init__(self, lab: Lab, cgroup: Path) -> None:
        self._lab, self._cgroup = lab, cgroup
        self._there: list[tuple[str, Traffic]] = []
        self.count = 0

    def next(self) -> None:
        """One comes, the older one goes."""
        ns = self._lab.namespace(f"visit{self.count}")
        argv = [sys.executable, "-I", str(WORKERS), "pair"]
        guest = Traffic(self._lab.popen(ns, argv, cgroup=self._cgroup))
        self.count += 1
        self._there.append((ns, guest))
        guest.expect("connected")
        if len(self._there) > 2:
            self._leave()

    def _leave(self) -> None:
        """By turns the name goes first, and the process keeps the namespace, or the process."""
        ns, guest = self._there.pop(0)
        delete = ["ip", "netns", "delete", ns]
        name_first = self.count % 2 == 0
        if name_first:
            run(delete)
        guest.end()
        if not name_first:
            run(delete)

    def all_leave(self) -> None:
        while self._there:
            self._leave()


class Crowd:
    """All the traffic. What is watched is in one cgroup, both ends of everything."""

    def __init__(self, lab: Lab, cgroup: Path, plan: Plan) -> None:
        self._lab, self._cgroup = lab, cgroup
        self.calm = lab.namespace("calm")
        link = lab.link("near", "far", loss_percent=LOSS_PERCENT, offload=False)
        self._near, self._far = link.a, link.b
        far = link.b.ipv4
        self.rest = Rest(self._maker, self.calm, plan.open)
        self._maker(self.calm, "serve", "127.0.0.1", SHORT_PORT, "--then", "close")
        self._maker(link.b.ns, "serve", far, SHORT_PORT, "--then", "close")
        self._maker(link.b.ns, "serve", far, TALK_PORT)
        lossy = plan.rate * LOSSY_SHARE
        self._short = [
            self._maker(self.calm, "short", "127.0.0.1", SHORT_PORT, "--rate", str(plan.rate - lossy)),
            self._maker(link.a.ns, "short", far, SHORT_PORT, "--rate", str(lossy)),
        ]
        self._talk = self._maker(link.a.ns, "rest", far, TALK_PORT)
        self.visits = Visits(lab, cgroup)
        self._late = self.failed = self._finished = 0
        self.at_first = 2 * self.rest.open(first=True) + self.rest.listeners + 3

    def _maker(self, ns: str, mode: str, address: str, port: int, *words: str) -> Traffic:
        argv = [sys.executable, "-I", str(MAKER), mode, "--address", address, "--port", str(port), *words]
        made = Traffic(self._lab.popen(ns, argv, cgroup=self._cgroup))
        made.expect("ready")
        return made

    def go(self) -> None:
        self._late = self.rest.open(first=False)
        self._talk.tell(f"talk {TALKERS}")
        self._talk.expect("opened")
        for flow in self._short:
            flow.tell("go")
        self.half_open()

    def half_open(self) -> None:
        """A few handshakes that nobody completes: the kernel gives them up after a minute or so."""
        words = ("--address", self._far.ipv4, "--port", str(SHORT_PORT), "--each", str(HALF_OPEN))
        argv = [sys.executable, "-I", str(WORKERS), "flood", *words]
        flood = Traffic(self._lab.popen(self._near.ns, argv, cgroup=self._cgroup))
        flood.expect("finished")
        flood.end()

    def stop(self) -> Made:
        """Until all that was short is closed: what there was."""
        self.visits.all_leave()
        self._talk.tell("stop")
        for flow in self._short:
            flow.tell("stop")
        for flow in self._short:
            opened, failed = map(int, flow.expect("finished", PATIENCE_S).split())
            self._finished += opened
            self.failed += failed
        self._talk.expect("talked", PATIENCE_S)
        visits = self.visits.count
        both_ends = self._finished + visits + self._late + TALKERS
        return Made(opened=2 * both_ends, closed=2 * (self._finished + visits))

    @property
    def short(self) -> int:
        """How many short connections there were."""
        return self._finished

    def cookies(self) -> set[int]:
        """Of the ends of resting connections, as ss tells them."""
        found = ss_sockets(self.calm)
        return {s.cookie for s in found if REST_PORT in (s.local_port, s.peer_port) and s.state == "ESTAB"}


# --- the run


class Soak:
    """One run in a lab that is there."""

    def __init__(self, lab: Lab, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = plan, say
        self._cgroup = lab.cgroup("watched")
        self._crowd = Crowd(lab, self._cgroup, plan)
        self._json = None if plan.screen else JsonMonitor(lab, self._cgroup, plan)
        self._monitor: Monitor = self._json or ScreenMonitor(self._cgroup, plan)
        self._samples: dict[str, list[Sample]] = {"monitor": [], "helper": []}
        self._report = Report(plan)

    def close(self) -> None:
        """The monitor's end, whatever happened."""
        self._monitor.close()

    def run(self) -> Report:
        """Raises LabError or TimeoutError where the traffic does not do what it should."""
        wait_until(lambda: self._monitor.ready() or self._monitor.ended.is_set(), 30, "the first tick")
        if not self._monitor.ended.is_set():
            pids = {"monitor": self._monitor.pid, "helper": helper_of(self._monitor.pid)}
            self._crowd.go()
            self._last(pids)
            made = self._crowd.stop()
            self._settle(made)
            self._judge_samples()
        if self._monitor.ended.is_set():
            self._report.violations.append("it ended by itself")
        self._report.violations += self._monitor.end()
        self._look_for_leftovers()
        return self._report

    def _last(self, pids: dict[str, int]) -> None:
        """The time that it takes: visits and samples, and a line a minute."""
        plan, start = self._plan, time.monotonic()
        chores: list[tuple[float, Callable[[], None]]] = [
            (plan.visit_s, self._crowd.visits.next),
            (plan.sample_s, lambda: self._sample(pids, time.monotonic() - start)),
            (60.0, lambda: self._minute(time.monotonic() - start)),
        ]
        due = [start + every for every, _ in chores]
        while (now := time.monotonic()) < start + plan.minutes * 60 + 0.5 and not self._monitor.ended.is_set():
            for number, (every, chore) in enumerate(chores):
                if due[number] <= now:
                    chore()
                    due[number] += every
            self._monitor.ended.wait(max(0.0, min(due) - time.monotonic()))

    def _sample(self, pids: dict[str, int], at_s: float) -> None:
        for name, pid in pids.items():
            try:
                self._samples[name].append(sample(pid, at_s))
            except OSError as error:
                violation = f"{name}: not there to be sampled any more ({error.strerror})"
                if violation not in self._report.violations:
                    self._report.violations.append(violation)

    def _minute(self, at_s: float) -> None:
        said = [
            f"{name} {samples[-1].rss_kib / 1024:.1f} MiB {samples[-1].fds}+{samples[-1].namespaces} fds"
            for name, samples in self._samples.items()
            if samples
        ]
        self._crowd.half_open()
        late = f" left out {left_out(self._json.ticks, self._plan.delay_s)}" if self._json else ""
        self._say(f"{at_s / 60:.0f} min: {self._monitor.progress()} | {', '.join(said)}{late}")

    def _settle(self, made: Made) -> None:
        """Once all is quiet: the books, then the rows."""
        report, watched = self._report, self._json
        if self._crowd.failed:
            report.violations.append(f"{self._crowd.failed} short connections failed: not the monitor, perhaps")
        report.figures.append(f"short connections: {self._crowd.short}, visits: {self._crowd.visits.count}")
        if watched is None or watched.ended.is_set():
            return
        try:
            watched.wait_tick(lambda tick: tick.states <= AT_REST and not tick.opened + tick.closed, "rest")
        except TimeoutError as error:
            report.violations.append(str(error))
        self._judge_ticks(list(watched.ticks), made)
        self._crowd.rest.touch()
        try:
            wait_until(lambda: len(watched.rows) >= 2 * self._plan.open, PATIENCE_S, "all resting rows")
        except TimeoutError as error:
            report.violations.append(str(error))
        report.violations += row_violations(watched.rows, self._crowd.cookies(), self._plan.open)
        report.figures.append(f"rows listed in the end: {len(watched.rows)}")

    def _judge_ticks(self, ticks: list[Tick], made: Made) -> None:
        report, delay_s = self._report, self._plan.delay_s
        if ticks[0].connections != self._crowd.at_first:
            report.violations.append(f"{ticks[0].connections} listed at first, not {self._crowd.at_first}")
        report.violations += book_violations(ticks, made)
        report.left_out = left_out(ticks, delay_s)
        intervals, polls = [t.interval_s for t in ticks[1:]], sorted(t.poll_s for t in ticks[1:])
        uneven = sum(abs(interval - delay_s) > delay_s / 2 for interval in intervals)
        report.figures += [
            f"ticks: {len(ticks)}, left out: {report.left_out}, uneven by half: {uneven},"
            f" interval {min(intervals):.3f} to {max(intervals):.3f} s",
            f"poll: median {statistics.median(polls) * 1000:.0f} ms, at most {polls[-1] * 1000:.0f} ms",
            f"opened {sum(t.opened for t in ticks[1:])} of {made.opened}, closed {sum(t.closed for t in ticks[1:])}"
            f" of {made.closed}, listed {ticks[0].connections} at first, {ticks[-1].connections} in the end",
        ]

    def _judge_samples(self) -> None:
        for name, samples in self._samples.items():
            after = [each for each in samples if each.at_s >= self._plan.warm_up_s]
            self._report.violations += memory_violations(name, after)
            if after:
                self._report.figures.append(memory_figures(name, after))

    def _look_for_leftovers(self) -> None:
        fd = os.open(self._cgroup, os.O_RDONLY)
        try:
            wait_until(lambda: not helper.programs_at(fd)[0], what="nothing being attached")
        except TimeoutError as error:
            self._report.violations.append(str(error))
        finally:
            os.close(fd)


def soak(plan: Plan, say: Callable[[str], None]) -> Report:
    """One run from beginning to end. Raises LabError or TimeoutError where it could not be done."""
    with Lab() as lab, contextlib.closing(Soak(lab, plan, say)) as running:
        return running.run()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    usual = Plan()
    parser.add_argument("--minutes", type=float, default=usual.minutes)
    parser.add_argument("--open", type=int, default=usual.open, help="connections that rest")
    parser.add_argument("--rate", type=float, default=usual.rate, help="short connections a second")
    parser.add_argument("--sample", type=float, default=usual.sample_s, help="seconds between two looks at the memory")
    parser.add_argument("--screen", action="store_true", help="watch the screen instead of --json: memory alone")
    args = parser.parse_args()
    plan = replace(
        usual, minutes=args.minutes, open=args.open, rate=args.rate, sample_s=args.sample, screen=args.screen
    )
    report = soak(plan, lambda line: print(line, flush=True))
    print(*report.figures, sep="\n")
    bad = report.violations + ([f"{report.left_out} ticks left out"] if report.left_out else [])
    print(*(f"WRONG: {each}" for each in bad), "nothing was wrong" if not bad else f"{len(bad)} wrong", sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
