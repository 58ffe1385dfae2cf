"""Independent witnesses of what TCP did in a namespace: ``ss``, the kernel's SNMP counters, and a tracepoint.

None of them is anything that the program under test uses, so that agreement with them means something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import final

from tests.support.lab import Lab
from tests.support.leftovers import tracefs, wait_until
from tests.support.netns import in_netns, run

# Words that ss prints alone and that are no congestion control (iproute2, misc/ss.c, tcp_stats_print).
FLAGS = frozenset({"ts", "usec_ts", "sack", "ecn", "ecnseen", "accecn", "fastopen", "app_limited"})
# Words that are followed by their value after a space, and not after a colon.
SPACED = frozenset({"send", "pacing_rate", "delivery_rate"})
# What ss joins with a slash: the name it uses, and ours for the two halves.
HALVES = {
    "rtt": ("rtt", "rttvar"),
    "retrans": ("retrans_now", "retrans_total"),
    "wscale": ("snd_wscale", "rcv_wscale"),
}


@dataclass(frozen=True)
class SsSocket:
    """A socket as ``ss -tinem`` shows it. Zeros are often not printed: ask ``value``, which has them."""

    state: str
    recv_q: int
    send_q: int
    local: str
    local_port: int
    peer: str
    peer_port: int
    device: str = ""  # that it is bound to: the scope of a link-local address
    inode: int = 0
    cookie: int = 0
    uid: int = 0
    drops: int = 0
    cgroup: str = ""
    timer: str = ""  # name, time left, retransmits: "on,200ms,0"
    congestion: str = ""
    flags: frozenset[str] = frozenset()
    numbers: dict[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """A number under ss' own name, in ss' own unit: times in milliseconds, sizes in bytes, rates in bit/s.

        Pairs have two names: rtt and rttvar; retrans_now and retrans_total (segments); snd_wscale and rcv_wscale.
        What ss left out is 0.
        """
        return self.numbers.get(name, 0)

    @property
    def quiet(self) -> bool:
        """Nothing is on its way: all that was sent is acknowledged."""
        return self.send_q == 0 and self.value("unacked") == 0 and self.value("retrans_now") == 0


def ss_sockets(ns: str) -> list[SsSocket]:
    """Every TCP socket of a namespace, IPv4 and IPv6, in every state."""
    return [parse_ss(line) for line in run(["ss", "-tinemOHa"], ns=ns).splitlines() if line.strip()]


def ss_socket(ns: str, *, local_port: int, peer_port: int | None = None, state: str | None = None) -> SsSocket | None:
    """The one socket with these ports and this state; None if there is none, or more than one."""
    found = [
        each
        for each in ss_sockets(ns)
        if each.local_port == local_port and peer_port in (None, each.peer_port) and state in (None, each.state)
    ]
    return found[0] if len(found) == 1 else None


def wait_quiet(ns: str, local_port: int, *, state: str | None = None, timeout: float = 30.0) -> SsSocket:
    """The sender's socket, once all that it sent is acknowledged; name a server's state: its listener has that port."""

    def settled() -> SsSocket | None:
        found = ss_socket(ns, local_port=local_port, state=state)
        return found if found and found.quiet else None

    found = wait_until(settled, timeout, f"port {local_port} being quiet")
    assert found
    return found


def parse_ss(line: str) -> SsSocket:
    """One line of ``ss -tinemOHa``."""
    state, recv_q, send_q, local, peer, *words = line.split()
    pairs, bare = _sort_words(words)
    return SsSocket(
        state,
        int(recv_q),
        int(send_q),
        *_address(local),
        *_address(peer),
        device=local.rpartition(":")[0].partition("%")[2].strip("]"),
        inode=int(pairs.pop("ino", "0")),
        cookie=int(pairs.pop("sk", "0"), 16),
        uid=int(pairs.pop("uid", "0")),
        drops=_drops(pairs.get("skmem", "")),
        cgroup=pairs.get("cgroup", ""),
        timer=pairs.get("timer", "").strip("()"),
        congestion=next((word for word in bare if word not in FLAGS and word[0].isalpha()), ""),
        flags=frozenset(bare) & FLAGS,
        numbers=_numbers(pairs),
    )


def _sort_words(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Words with a value, and words without; the arrow between the queues and the rest is one of the latter."""
    pairs: dict[str, str] = {}
    bare = []
    rest = iter(words)
    for word in rest:
        name, colon, value = word.partition(":")
        if colon:
            pairs[name] = value
        elif word in SPACED:
            pairs[word] = next(rest, "")
        else:
            bare.append(word)
    return pairs, bare


def _address(text: str) -> tuple[str, int]:
    """Address and port; the port of a listener's peer is a star: 0."""
    address, _, port = text.rpartition(":")
    address, _, _ = address.partition("%")  # the device that it is bound to
    return address.strip("[]"), int(port) if port.isdigit() else 0


def _drops(memory: str) -> int:
    """The last of what ``-m`` tells: "(r0,rb131072,...,d7)"."""
    found = re.search(r",d(\d+)\)", memory)
    return int(found[1]) if found else 0


def _numbers(pairs: dict[str, str]) -> dict[str, float]:
    """The values that begin with a number, without their units."""
    found: dict[str, float] = {}
    for name, value in pairs.items():
        halves = re.split(r"[/,]", value) if name in HALVES else [value]
        for part_name, part in zip(HALVES.get(name, (name,)), halves, strict=False):
            if match := re.match(r"\d+(\.\d+)?", part):
                found[part_name] = float(match[0]) if match[1] else int(match[0])
    return found


def snmp(ns: str) -> dict[str, int]:
    """The namespace's counters of /proc/net/snmp and netstat, as "Tcp.RetransSegs" and "TcpExt.TCPTimeouts"."""
    files = [Path("/proc/thread-self/net") / name for name in ("snmp", "netstat")]
    text = in_netns(ns, lambda: "".join(file.read_text() for file in files))
    return dict(_counters(text))


def _counters(text: str) -> Iterator[tuple[str, int]]:
    """Lines come in pairs: the names of a protocol's counters, then their values."""
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, _, titles = names.partition(":")
        for title, value in zip(titles.split(), values.split()[1:], strict=True):
            yield f"{protocol}.{title}", int(value)


@dataclass(frozen=True)
class Retransmit:
    """One event of ``tcp:tcp_retransmit_skb``: one packet sent again, which may be many segments.

    ``err`` is not 0 when it was not sent (older kernels don't tell, and have no such events); ``at`` is in seconds of
    the trace clock, and IPv4 through an IPv6 socket has IPv4 addresses.
    """

    at: float
    source: str
    sport: int
    target: str
    dport: int
    state: str  # "TCP_ESTABLISHED"
    err: int


@final
class RetransmitTracepoint:
    """Listens to the retransmit tracepoint in a tracefs instance of its own, which goes at the exit.

    The kernel traces every namespace, so events are told apart by ports, and by the addresses of this lab alone.
    """

    def __init__(self, lab: Lab, *ports: int) -> None:
        self._lab = lab
        self._filter = " || ".join(f"sport == {port} || dport == {port}" for port in ports)
        self._stack = ExitStack()

    def __enter__(self) -> RetransmitTracepoint:
        root = self._stack.enter_context(tracefs())
        self._instance = root / "instances" / self._lab.prefix
        self._instance.mkdir()
        self._stack.callback(self._instance.rmdir)
        event = self._instance / "events/tcp/tcp_retransmit_skb"
        (self._instance / "buffer_size_kb").write_text("4096")  # for each processor; an event takes 80 bytes
        (event / "filter").write_text(self._filter)
        (event / "enable").write_text("1")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def events(self) -> list[Retransmit]:
        """Everything since the beginning, oldest first."""
        for stats in self._instance.glob("per_cpu/cpu*/stats"):
            assert "overrun: 0\n" in stats.read_text(), "the trace buffer was too small"
        lines = (self._instance / "trace").read_text().splitlines()
        events = [parse_retransmit(line) for line in lines if " tcp_retransmit_skb: " in line]
        return [event for event in events if event.source in self._lab.addresses]


def parse_retransmit(line: str) -> Retransmit:
    """One line of a trace file."""
    before, _, after = line.partition(": tcp_retransmit_skb: ")
    said = dict(word.partition("=")[::2] for word in after.split())
    six = said["family"] == "AF_INET6"
    return Retransmit(
        at=float(before.split()[-1]),
        source=said["saddrv6" if six else "saddr"].removeprefix("::ffff:"),
        sport=int(said["sport"]),
        target=said["daddrv6" if six else "daddr"].removeprefix("::ffff:"),
        dport=int(said["dport"]),
        state=said["state"],
        err=int(said.get("err", "0")),
    )
