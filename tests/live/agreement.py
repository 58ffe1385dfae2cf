"""Rows and ``ss``, field by field: both brought to what ``ss`` prints, under the names of our own fields."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.leftovers import NETNS
from tests.support.netns import in_netns
from tests.support.witness import SsSocket, ss_sockets

Row = dict[str, Any]
Key = tuple[int, int]  # namespace, cookie

# Our field, and the number of ss that it has to equal.
COUNTS = {
    "backoff": "backoff",
    "cwnd": "cwnd",
    "mss": "mss",
    "bytes_acked": "bytes_acked",
    "bytes_received": "bytes_received",
    "retrans_segs": "retrans_total",
    "lost": "lost",
    "sacked": "sacked",
    "unacked": "unacked",
    "notsent": "notsent",
    "snd_wnd": "snd_wnd",
    "rcv_wnd": "rcv_wnd",
    "dsack_dups": "dsack_dups",
    "reord_seen": "reord_seen",
    "ooo_in": "rcv_ooopack",
}
TIMES = {"srtt_us": "rtt", "rttvar_us": "rttvar", "min_rtt_us": "minrtt", "rto_us": "rto"}
CLOCKS = {"busy_us": "busy", "rwnd_limited_us": "rwnd_limited", "sndbuf_limited_us": "sndbuf_limited"}
NO_TIMEOUT_TOLD = 3_000_000  # us; ss takes it for the kernel's default and leaves it out
SSTHRESH_TOLD = 0xFFFF  # ss prints what is less
TIMERS = {"retransmit": "on", "probe": "on", "reorder": "on", None: ""}  # inet_diag has one number for the three
UNTOLD = (
    "delack",
    "unknown",
)  # inet_diag tells of a delayed ACK from 7.1 on, ss 7.3 names it; the iterator always does


@dataclass(frozen=True)
class Said:
    """One socket as ss has it. ``facts`` under our names, ``clocks`` in milliseconds: these go on at rest."""

    key: Key
    facts: Row
    clocks: Row
    scope: tuple[str, str]  # number and name of the device that it is bound to


def ss_says(namespaces: Iterable[str]) -> dict[Key, Said]:
    """All sockets of these namespaces that have a row: TIME-WAIT and SYN-RECV are counted, not listed."""
    asked = [(os.stat(NETNS / ns).st_ino, in_netns(ns, _devices), ss_sockets(ns)) for ns in namespaces]
    known = {name for _, _, sockets in asked for each in sockets for name in each.numbers}
    found = {}
    for netns, devices, sockets in asked:
        for each in sockets:
            if not each.timer.startswith("timewait") and each.state != "SYN-RECV":
                said = _said(each, netns, devices)
                if "rcv_wnd" not in known:  # iproute2 tells it since 6.3
                    said.facts.pop("rcv_wnd", None)
                found[said.key] = said
    return found


def _devices() -> dict[str, int]:
    return {name: index for index, name in socket.if_nameindex()}


def _said(said: SsSocket, netns: int, devices: dict[str, int]) -> Said:
    scope = f"%{said.device}" if said.device else ""
    facts: Row = {
        "state": said.state,
        "laddr": _plain_address(said.local, scope),
        "raddr": _plain_address(said.peer, scope),
        "family": 6 if ":" in _plain_address(said.local) else 4,
        "lport": said.local_port,
        "rport": said.peer_port or None,
        "inode": said.inode or None,
        "uid": said.uid,
        "cgroup": said.cgroup,
        "recv_q": said.recv_q,
        "send_q": said.send_q,
        "drops": said.drops,
        "cc": said.congestion,
        "timer": "" if said.timer.startswith(UNTOLD) else said.timer.partition(",")[0],
        "backlog": said.recv_q if said.state == "LISTEN" else None,
        "backlog_max": said.send_q if said.state == "LISTEN" else None,
    }
    clocks: Row = {}
    if said.state != "LISTEN":  # what ss tells of a listener's windows and times is what its children would begin with
        facts |= {ours: said.value(theirs) for ours, theirs in COUNTS.items()}
        facts |= {ours: said.value(theirs) for ours, theirs in TIMES.items()}
        facts["ssthresh"] = said.value("ssthresh")
        facts["delivery_bytes_per_s"] = said.value("delivery_rate") // 8
        clocks = {ours: said.value(theirs) for ours, theirs in CLOCKS.items()}
    if said.state not in ("LISTEN", "SYN-SENT"):  # nothing was sent yet: ss counts from the start of the machine
        clocks["idle_s"] = min(said.value("lastsnd"), said.value("lastrcv"))
    return Said((netns, said.cookie), facts, clocks, (str(devices.get(said.device, "")), said.device))


def _plain_address(text: str, scope: str = "") -> str:
    """We show the IPv4 address that a mapped one is, as people write it; the family says what the packets are."""
    return "::" if text == "*" else text.removeprefix("::ffff:") + scope


def _as_printed(row: Row, scope: tuple[str, str]) -> Row:
    """Our row at the precision of ss; what ss leaves out is 0 there, and null here where it would mean nothing."""
    shown = dict(row)
    number, name = scope
    for side in ("laddr", "raddr"):  # a source that only has a netlink socket of a namespace knows no names of devices
        shown[side] = re.sub(f"%{number}$", f"%{name}", row[side])
    shown["timer"] = "" if row["timer"] in UNTOLD else TIMERS.get(row["timer"], row["timer"])
    if row["state"] == "LISTEN":
        return shown
    for name in TIMES:  # ss prints milliseconds with %g: six digits
        shown[name] = float(f"{(row[name] or 0) / 1000:g}")
    if row["rto_us"] == NO_TIMEOUT_TOLD:
        shown["rto_us"] = 0
    if row["srtt_us"] is None:  # before the first sample ss prints neither it nor its deviation
        shown["rttvar_us"] = 0
    if row["state"] == "SYN-SENT":  # the peer has not told of a window yet
        assert row["snd_wnd"] is None
        shown["snd_wnd"] = 0
    if row["ssthresh"] is None or row["ssthresh"] >= SSTHRESH_TOLD:
        shown["ssthresh"] = 0
    shown["delivery_bytes_per_s"] = row["delivery_bytes_per_s"] or 0
    return shown


def differences(row: Row, clocks: Row, before: Said, after: Said, rate_error: float = 0.0) -> dict[str, object]:
    """Fields that differ: ours, theirs. Clocks of ours lie between theirs, to the millisecond that ss cuts off."""
    shown = _as_printed(row, before.scope)
    found: dict[str, object] = {
        name: (shown[name], theirs)
        for name, theirs in before.facts.items()
        if shown[name] != theirs
        and not (name == "delivery_bytes_per_s" and abs(shown[name] - theirs) <= rate_error * theirs + (rate_error > 0))
    }
    for name, start in before.clocks.items():
        ours = row["idle_s"] * 1000 if name == "idle_s" else clocks[name] / 1000
        if not start - 1 <= ours <= after.clocks[name] + 1:
            found[name] = (ours, start, after.clocks[name])
    return found
