"""What shows one connection, and nothing else, in other tools: commands of ss and tcpdump, and a filter. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from tcptop_ops import format as text
from tcptop_ops.columns import find
from tcptop_ops.snapshot import Records, State
from tcptop_ops.tracker import Flows, Rows

IN_NAMESPACE = "nsenter --net=/proc/{pid}/ns/net "
"""util-linux; a shell's word of no special characters."""

_SAME = ("netns", "laddr", "lport", "raddr", "rport")


@dataclass(frozen=True)
class Command:
    """What shows the connection: the tool's name, and what to type, a line of the shell."""

    tool: str
    typed: str


@dataclass(frozen=True)
class Elsewhere:
    """The commands, and what has to be known about them ("" for nothing)."""

    commands: tuple[Command, ...]
    note: str


def commands(rows: Rows, flows: Flows, own_netns: int) -> Elsewhere:
    """Of the connection or listener in ``rows`` (of length 1). ``own_netns``: this program's; 0: not known."""
    socket = rows.sockets[0]
    inside, note = _where(rows, own_netns)
    wanted = filter_text(rows, flows)
    if rows.endings is not None:
        note = "it is closed: ss shows it no longer"
    return Elsewhere(
        (
            Command("ss", inside + _ss(socket, has_twins(rows, flows))),
            Command("tcpdump", inside + shlex.join(["tcpdump", "-ni", "any", _packets(socket)])),
            Command("tcptop-ops", shlex.join(["tcptop-ops", "-f", wanted])),
            Command("the filter alone", wanted),
        ),
        note,
    )


def _where(rows: Rows, own_netns: int) -> tuple[str, str]:
    """What enters the connection's network namespace, or why that is not known."""
    netns, pid = int(rows.sockets["netns"][0]), int(rows.owners["pid"][0])
    if not own_netns or not netns or netns == own_netns:
        return "", ""
    if pid and rows.endings is None:
        return IN_NAMESPACE.format(pid=pid), ""
    return "", f"ss and tcpdump have to run in its network namespace, {netns}: no process is known to enter it through"


def has_twins(rows: Rows, flows: Flows) -> bool:
    """Whether others have the same addresses and ports: listeners with SO_REUSEPORT, or those of two devices."""
    socket, count = rows.sockets[0], 0
    for part in (flows.live, flows.closed):
        same = np.ones(len(part), np.bool_)
        for name in _SAME:
            equal = part.sockets[name] == socket[name]
            same &= equal if equal.ndim == 1 else equal.all(axis=1)
        count += int(np.count_nonzero(same))
    return count > 1


def _ss(socket: Records, has_twins: bool) -> str:
    """ss(8), FILTER. An IPv4 address finds mapped ones too, 0.0.0.0 and [::] nothing but themselves; scopes are errors.

    Only what ss prints, by -e, tells twins apart: ``sk:`` is the cookie. -O makes it one line.
    """
    options = "-tlinH" if socket["state"] == State.LISTEN else "-tinH"
    here, there = _ends(socket)
    wanted = f"src {here}" + (f" and dst {there}" if socket["state"] != State.LISTEN else "")
    if not has_twins:
        return shlex.join(["ss", options, wanted])
    return f"{shlex.join(['ss', options + 'eO', wanted])} | grep -w sk:{int(socket['cookie']):x}"


def _packets(socket: Records) -> str:
    """pcap-filter(7): both ends; of a listener its port, and its address where it is bound to one."""
    ends = [("laddr", "lport")] if socket["state"] == State.LISTEN else [("laddr", "lport"), ("raddr", "rport")]
    parts = ["tcp"]
    for address, port in ends:
        host = [f"host {_address(socket[address])}"] if _is_specified(socket[address]) else []
        parts += [*host, f"port {int(socket[port])}"]
    return " and ".join(parts)


def filter_text(rows: Rows, flows: Flows) -> str:
    """The filter of this program, with the namespace where there are several, and the cookie where that is not enough.

    A scope is the device's number: ``[fe80::1%2]:22``.
    """
    socket = rows.sockets[0]
    scope = f"%{int(socket['ifindex'])}" if socket["ifindex"] else ""
    here, there = _ends(socket, scope)
    listens = socket["state"] == State.LISTEN
    parts = ["state = LISTEN", f"local = {here}"] if listens else [f"local = {here}", f"peer = {there}"]
    if flows.snapshot.namespaces > 1 and socket["netns"]:
        parts.append(f"netns = {int(socket['netns'])}")
    if has_twins(rows, flows):
        parts.append(f"cookie = {int(socket['cookie'])}")
    return " and ".join(parts)


def _ends(socket: Records, scope: str = "") -> tuple[str, str]:
    """Both ends as ``10.0.0.1:443`` and ``[::1]:443``. ``scope``: of link-local addresses."""
    here, there = (
        text.endpoint(_address(socket[f"{side}addr"], scope), str(int(socket[f"{side}port"]))) for side in "lr"
    )
    return here, there


def _address(packed: Records, scope: str = "") -> str:
    raw = bytes(packed)
    is_link_local = raw[0] == 0xFE and raw[1] & 0xC0 == 0x80
    return str(find("laddr").plain(raw)) + (scope if is_link_local else "")


def _is_specified(packed: Records) -> bool:
    raw = bytes(packed)
    return any(raw[12:] if raw.startswith(b"\0" * 10 + b"\xff\xff") else raw)
