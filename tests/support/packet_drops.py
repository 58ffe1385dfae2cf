"""Packets dropped by nftables in a namespace: random loss, lost tails, a black hole, a host's own drops."""

from __future__ import annotations

import json

from tests.support.leftovers import MARK
from tests.support.netns import run


class _Dropper:
    """An nftables table of its own in one namespace: a chain with at most one rule, and a counter of drops.

    On the receiver's side, because a drop in the sender's own output hook is no loss to TCP: it is told at once.
    """

    def __init__(self, ns: str, table: str, hook: str = "input") -> None:
        self.ns = ns
        self.table = f"{MARK}{table}"
        self._chain = hook
        chain = f"type filter hook {hook} priority 0; policy accept;"
        self._nft(f"table inet {self.table} {{\ncounter dropped {{ }}\nchain {hook} {{ {chain} }}\n}}\n")

    def replace(self, match: str | None) -> None:
        """Drop what matches from now on, in one step; nothing if there is no match to make."""
        rule = f"add rule inet {self.table} {self._chain} {match} counter name dropped drop\n" if match else ""
        self._nft(f"flush chain inet {self.table} {self._chain}\n{rule}")

    def dropped(self) -> int:
        """Return the packets dropped so far. A packet may be many segments where offloads are on."""
        return dropped_in(self.ns, self.table)

    def _nft(self, commands: str) -> None:
        run(["nft", "-f", "-"], ns=self.ns, text=commands)


def dropped_in(ns: str, table: str = "") -> int:
    """Return the sum of the counters of one table of ours, or of all."""
    listed = json.loads(run(["nft", "-j", "list", "counters"], ns=ns))["nftables"]
    counters = [entry["counter"] for entry in listed if "counter" in entry]
    return sum(c["packets"] for c in counters if c["table"] == table or (not table and c["table"].startswith(MARK)))


class Loss(_Dropper):
    """Random loss of TCP packets that arrive on a device."""

    def __init__(self, ns: str, device: str, percent: float = 0.0) -> None:
        """Lose this share of what arrives on a device."""
        super().__init__(ns, f"loss-{device}")
        self._arriving = f'iifname "{device}" meta l4proto tcp'  # TCP alone: neighbour discovery goes on
        self.set(percent)

    def set(self, percent: float) -> None:
        """Lose this share of the packets, to a hundredth of a percent."""
        share = round(percent * 100)
        chance = "" if share >= 10_000 else f" numgen random mod 10000 < {share}"  # nft refuses what is always true
        self.replace(f"{self._arriving}{chance}" if share else None)

    def every(self, count: int) -> None:
        """Lose each ``count``-th packet: as much loss, no chance."""
        self.replace(f"{self._arriving} numgen inc mod {count} {count - 1}")

    def tails(self, lost: int) -> None:
        """Lose the last segment of each of ``traffic.MESSAGE``, the first ``lost`` times that it is sent."""
        self.replace(f"{self._arriving} meta length 300-1000 numgen inc mod {lost + 1} < {lost}")

    def longer_than(self, size: int) -> None:
        """Lose each packet of more bytes than this, the IP header included: a path whose MTU nobody tells."""
        self.replace(f"{self._arriving} meta length > {size}")

    def plain_acks(self) -> None:
        """Lose IPv4 acknowledgements without SACK blocks: 20 bytes, 20, and timestamps."""
        self.replace(f"{self._arriving} meta length 52")


class BlackHole(_Dropper):
    """SYNs to a port vanish without an answer, until it is opened."""

    def __init__(self, ns: str, port: int) -> None:
        """Drop SYNs to a port of a namespace."""
        super().__init__(ns, f"hole-{port}")
        self._syns = f"tcp dport {port} tcp flags & (syn | ack) == syn"
        self.close()

    def close(self) -> None:
        """Drop SYNs from now on."""
        self.replace(self._syns)

    def open(self) -> None:
        """Let SYNs pass."""
        self.replace(None)


class OwnDrop(_Dropper):
    """A host that drops what it sends itself: TCP leaving through a device, from now on."""

    def __init__(self, ns: str, device: str) -> None:
        """Drop what leaves a namespace through a device."""
        super().__init__(ns, f"own-{device}", "output")
        self.replace(f'oifname "{device}" meta l4proto tcp')


class FirstSyns(_Dropper):
    """The first SYNs from each source port to a port vanish, so many of each; what is sent again arrives."""

    def __init__(self, ns: str, port: int, lost: int = 1) -> None:
        """Drop the first ``lost`` SYNs, one or two, of each client."""
        super().__init__(ns, f"first-{port}")
        table = f"inet {self.table}"
        syn = f"tcp dport {port} tcp flags & (syn | ack) == syn"
        for number in range(lost):
            self._nft(f"add set {table} seen{number} {{ type inet_service; flags dynamic; size 4096; }}\n")
            added = f"add @seen{number} {{ tcp sport }}"
            self._nft(f"add rule {table} input {syn} tcp sport != @seen{number} {added} counter name dropped drop\n")


class Reject:
    """ICMP messages for what arrives, leaves or is forwarded to a TCP port."""

    def __init__(self, ns: str, port: int, kind: str, hook: str = "input") -> None:
        """Reject with a kind that nft knows: ``icmp type admin-prohibited``, ``icmpx type host-unreachable``."""
        chain = f"chain {hook} {{ type filter hook {hook} priority 0; policy accept;\n"
        run(
            ["nft", "-f", "-"],
            ns=ns,
            text=f"table inet {MARK}reject-{port} {{\n{chain}tcp dport {port} reject with {kind}\n}}\n}}\n",
        )
