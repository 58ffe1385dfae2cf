"""A network laboratory on one machine: namespaces, links that lose and queue, black holes, traffic; always undone.

    with Lab() as lab:
        link = lab.link("client", "server", loss_percent=3, offload=False)
        server = lab.server(link.b.ns, "serve-sink")
        client = lab.client(link.a.ns, "send", 1_000_001, address=link.b.ipv4, port=server.port)
        client.expect("sent")

Everything bears the lab's prefix (see ``leftovers``) and goes at the exit, whatever happened; a watcher process does
the same when the owner was killed. Traffic never leaves the namespaces that were made here. Needs root, cgroup v2,
iproute2, nftables and util-linux's ``nsenter``; for the processes a cgroup, so that none can be missed at the end.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

from tests.support import leftovers
from tests.support.leftovers import MARK, NETNS, sweep_leftovers, wait_until
from tests.support.netns import LabError, entering, in_netns, run
from tests.support.packet_drops import BlackHole, Loss, OwnDrop, dropped_in

__all__ = [
    "BlackHole",
    "End",
    "Lab",
    "LabError",
    "Link",
    "Loss",
    "OwnDrop",
    "Traffic",
    "in_netns",
    "run",
    "sweep_leftovers",
    "wait_until",
]


TRAFFIC = Path(__file__).with_name("traffic.py")
FORWARDER = Path(__file__).with_name("forwarder.py")
WATCHER = Path(leftovers.__file__)
START_LIMIT = 10.0  # seconds; a Python starts in 0.02, but not on an emulated machine


@dataclass(frozen=True)
class End:
    """One end of a link: the namespace (its full name), the device in it, and its addresses."""

    ns: str
    device: str
    mac: str
    ipv4: str
    ipv6: str


@dataclass(frozen=True)
class Link:
    """Two ends; ``loss`` drops what arrives at ``b``. With a rate, ``router`` is the namespace with the queue."""

    a: End
    b: End
    loss: Loss
    router: str | None = None


class Traffic:
    """A traffic program (``traffic.py``) at work. Its lines are read as they come, so that it never waits for us."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        self.port = 0  # the local port, once a line told it
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        with contextlib.suppress(ValueError):  # closed by us, at the end
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def expect(self, word: str, timeout: float = START_LIMIT) -> str:
        """Wait for the line that starts with this word, and return the rest of it."""
        deadline = time.monotonic() + timeout
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"no {word!r} within {timeout:g} s; {seen=}") from None
            first, _, rest = line.strip().partition(" ")
            if first == word:
                return rest
            if not line or first == "failed":
                raise LabError(f"{word!r} was expected of the traffic program; {line=} {seen=}")
            seen.append(line)

    def told(self, word: str) -> list[str]:
        """The rest of each line that has come, is not taken yet and starts with this word; the others are forgotten."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                first, _, rest = self._lines.get_nowait().strip().partition(" ")
                if first == word:
                    found.append(rest)
        return found

    def tell(self, line: str) -> None:
        """Send a command."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Kill it, by its pid, and wait: its sockets are closed by the kernel."""
        _end(self.process)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):  # what was never read from the other side
                stream.close()


@final
class Lab:
    """Makes things, and is the context in which they exist."""

    def __init__(self) -> None:
        self.prefix = f"{MARK}{os.getpid()}-{secrets.token_hex(3)}"
        self._links = secrets.randbelow(1 << 16)  # where the addresses start: other labs have others
        self._site = secrets.token_hex(5)  # the 40 random bits of a local IPv6 prefix, RFC 4193
        self._devices = 0
        self.addresses: set[str] = set()
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Lab:
        root = leftovers.cgroup2_mount()
        if root is None:
            raise LabError("no cgroup v2 file system is mounted")
        self._cgroup = root / self.prefix
        with contextlib.ExitStack() as stack:  # undone in the opposite order, here too if something fails
            self._watch(stack)
            stack.callback(leftovers.remove, self.prefix)
            stack.callback(self._end_processes)
            self._make_cgroup(self._cgroup)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _watch(self, stack: contextlib.ExitStack) -> None:
        """Start the watcher: the end of its input, when the stack is closed or we are dead, makes it tidy."""
        # In a session of its own: an interrupt from the keyboard is for the tests, not for who tidies after them.
        argv = [sys.executable, "-I", str(WATCHER), self.prefix]
        stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True))

    @property
    def started(self) -> int:
        """How many programs were started, and are not ended yet."""
        return len(self._processes)

    def end_since(self, started: int) -> None:
        """End the programs that were started after that many."""
        for process in self._processes[started:]:
            _end(process)
        del self._processes[started:]

    def _end_processes(self) -> None:
        self.end_since(0)

    def cgroup(self, name: str) -> Path:
        """A cgroup, in that of the lab."""
        made = self._cgroup / name
        self._make_cgroup(made)
        return made

    def limit_tcp_memory(self, process: Traffic, count: int) -> None:
        """Let a process, and what it accepts from now on, use no more than ``count`` bytes of memory for TCP.

        Raises LabError where the memory controller of cgroup v1 is not mounted: v2 has no limit of TCP's own.
        """
        mount = leftovers.memory_mount()
        if mount is None:
            raise LabError("the memory controller of cgroup v1 is not mounted")
        made = mount / f"{self.prefix}-{process.pid}"
        self._make_cgroup(made)
        (made / "memory.kmem.tcp.limit_in_bytes").write_text(str(count))
        (made / "cgroup.procs").write_text(str(process.pid))

    @staticmethod
    def _make_cgroup(path: Path) -> None:
        try:
            path.mkdir()
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}") from error

    @contextlib.contextmanager
    def inside(self, cgroup: Path) -> Iterator[None]:
        """This very process in a cgroup, for a while: sockets made meanwhile belong to it."""
        mount = self._cgroup.parent
        before = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        (cgroup / "cgroup.procs").write_text("0")
        try:
            yield
        finally:
            (mount / before.lstrip("/") / "cgroup.procs").write_text("0")

    def namespace(self, label: str) -> str:
        """The full name of the lab's namespace of this label; made when it is first asked for."""
        name = f"{self.prefix}-{label}"
        if not (NETNS / name).exists():
            run(["ip", "netns", "add", name])
            run(["ip", "-n", name, "link", "set", "lo", "up"])
        return name

    def link(
        self,
        a: str,
        b: str,
        *,
        loss_percent: float = 0,
        offload: bool = True,
        rate: str | None = None,
        latency: str = "50ms",
    ) -> Link:
        """Join two namespaces, named by their labels; ``b`` loses what it receives.

        ``offload=False`` makes every packet one segment, so that losses can be counted. ``rate`` (as tc has it, say
        "20mbit") puts a router between them with a queue towards ``b``, as long as ``latency`` says.
        """
        if rate is None:
            left, right = self._cable(self.namespace(a), self.namespace(b), offload)
            return Link(left, right, Loss(right.ns, right.device, loss_percent))
        router = self.namespace(f"{a}-{b}")
        left, inner = self._cable(self.namespace(a), router, offload)
        outer, right = self._cable(router, self.namespace(b), offload)
        self._route(left, inner, right)
        self._route(right, outer, left)
        self._forward(outer, rate, latency)
        return Link(left, right, Loss(right.ns, right.device, loss_percent), router)

    def slow_path(self, a: str, b: str, **options: float | str) -> Link:
        """Join two namespaces by a path in user space that delays, and lets some packets be late (``forwarder.py``).

        Options are those of its command line; several values are words of one text (``late_ms="5 60"``).
        """
        self._links = (self._links + 1) % (1 << 16)
        self._devices += 2
        ends = (self._end(self.namespace(a), 1), self._end(self.namespace(b), 2))
        words = [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", *str(value).split())]
        where = [word for end in ends for word in (str(NETNS / end.ns), end.device)]
        Traffic(self.popen(None, [sys.executable, "-I", str(FORWARDER), *where, *words])).expect("ready")
        for end, peer in (ends, ends[::-1]):
            ready = f"""
                link set {end.device} up
                address add {end.ipv4} peer {peer.ipv4} dev {end.device}
                address add {end.ipv6} peer {peer.ipv6} dev {end.device} nodad
            """
            run(["ip", "-n", end.ns, "-batch", "-"], text=ready)
        return Link(*ends, Loss(ends[1].ns, ends[1].device))

    def _cable(self, a: str, b: str, offload: bool) -> tuple[End, End]:
        """A veth pair with addresses of its own (RFC 1918, RFC 4193)."""
        self._links = (self._links + 1) % (1 << 16)
        self._devices += 2
        ends = (self._end(a, 1), self._end(b, 2))
        names = [["name", end.device, "netns", end.ns, "address", end.mac] for end in ends]
        run(["ip", "link", "add", *names[0], "type", "veth", "peer", *names[1]])
        for end, peer in (ends, ends[::-1]):
            self._set_up(end, peer, offload)
        return ends

    @staticmethod
    def _set_up(end: End, peer: End, offload: bool) -> None:
        """Addresses, and the peer as a fixed neighbour: to look for it may take a second, and a SYN's timer."""
        ready = f"""
            address add {end.ipv4}/24 dev {end.device}
            address add {end.ipv6}/64 dev {end.device} nodad
            link set {end.device} {"" if offload else "gso_max_segs 1"} up
            neighbour replace {peer.ipv4} lladdr {peer.mac} dev {end.device} nud permanent
            neighbour replace {peer.ipv6} lladdr {peer.mac} dev {end.device} nud permanent
        """
        run(["ip", "-n", end.ns, "-batch", "-"], text=ready)

    def _end(self, ns: str, host: int) -> End:
        high, low = divmod(self._links, 256)
        site = f"fd{self._site[:2]}:{self._site[2:6]}:{self._site[6:]}"
        end = End(
            ns=ns,
            device=f"tct{self._devices - 2 + host}",
            mac=f"02:00:00:{high:02x}:{low:02x}:{host:02x}",  # 02: locally administered
            ipv4=f"10.{high}.{low}.{host}",
            ipv6=str(ipaddress.ip_address(f"{site}:{self._links:x}::{host}")),  # as everybody writes it
        )
        self.addresses |= {end.ipv4, end.ipv6}
        return end

    @staticmethod
    def _route(source: End, gateway: End, target: End) -> None:
        run(["ip", "-n", source.ns, "route", "add", target.ipv4, "via", gateway.ipv4])
        run(["ip", "-n", source.ns, "route", "add", target.ipv6, "via", gateway.ipv6])

    @staticmethod
    def _forward(outer: End, rate: str, latency: str) -> None:
        """Make a namespace a router, and give the device that leads out of it a queue."""
        switch = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        run(["sh", "-ec", switch], ns=outer.ns)
        queueing = ["tbf", "rate", rate, "burst", "32kb", "latency", latency]
        run(["tc", "-n", outer.ns, "qdisc", "add", "dev", outer.device, "root", *queueing])

    def loss(self, end: End, percent: float = 0) -> Loss:
        """Loss at one more end of a link: what goes back to ``a``, ACKs for instance."""
        return Loss(end.ns, end.device, percent)

    def own_drop(self, end: End) -> OwnDrop:
        """Let this end drop what it sends."""
        return OwnDrop(end.ns, end.device)

    def black_hole(self, ns: str, port: int) -> BlackHole:
        """Let SYNs to this port vanish in the namespace of the receiver."""
        return BlackHole(ns, port)

    @staticmethod
    def dropped(ns: str) -> int:
        """Packets that the lab's losses and black holes dropped in a namespace."""
        return dropped_in(ns)

    def popen(
        self, ns: str | None, argv: Sequence[str], *, cgroup: Path | None = None, stderr: int | None = None
    ) -> subprocess.Popen[str]:
        """Start a program in a namespace (None: where we are) and a cgroup, there from before its first instruction.

        Standard input and output are pipes, of text. ``pid`` is the program's own: the words before it only ``exec``.
        """
        joining = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(cgroup or self._cgroup)]
        process = subprocess.Popen(
            [*joining, *entering(ns), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self._processes.append(process)
        return process

    def traffic(
        self, ns: str, mode: str, count: int = 0, *, cgroup: Path | None = None, **options: str | int
    ) -> Traffic:
        """A traffic program; options are those of its command line (``source_port=7`` is ``--source-port 7``)."""
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        argv = [sys.executable, "-I", str(TRAFFIC), mode, str(count), *words]
        return Traffic(self.popen(ns, argv, cgroup=cgroup))

    def server(
        self, ns: str, mode: str = "serve-sink", count: int = 0, *, cgroup: Path | None = None, **options: str | int
    ) -> Traffic:
        """A listener that is ready; its ``port`` is where."""
        started = self.traffic(ns, mode, count, cgroup=cgroup, **options)
        started.port = int(started.expect("ready"))
        return started

    def client(
        self, ns: str, mode: str, count: int = 0, *, cgroup: Path | None = None, **options: str | int
    ) -> Traffic:
        """A client, perhaps not connected yet, whose ``port`` is known; ``short-connections`` has too many to know."""
        started = self.traffic(ns, mode, count, cgroup=cgroup, **options)
        if mode != "short-connections":
            started.port = int(started.expect("connecting"))
        return started
