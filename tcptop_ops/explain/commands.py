"""Make commands and filters that show exactly one connection in other tools: ss, tcpdump and this program. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from tcptop_ops import text
from tcptop_ops.model.addresses import is_link_local, is_unspecified
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import Records
from tcptop_ops.views.column_lookup import find

IN_NAMESPACE = "nsenter --net=/proc/{pid}/ns/net "
"""A prefix that runs a command in the network namespace of a process (nsenter of util-linux).

It needs no shell quoting.
"""

_SAME = ("netns", "laddr", "lport", "raddr", "rport")


@dataclass(frozen=True)
class Command:
    """A command that shows the connection. ``typed`` is a line for a shell, or a filter."""

    tool: str
    typed: str


@dataclass(frozen=True)
class OtherTools:
    """The commands, and a note on how to use them ("" for none)."""

    commands: tuple[Command, ...]
    note: str


def commands(rows: Rows, flows: Flows, own_netns: int) -> OtherTools:
    """Return the commands for the connection or listener in ``rows`` (Rows of length 1).

    ``own_netns``: inode number of this program's network namespace, 0 if it is not known.
    """
    socket = rows.sockets[0]
    inside, note = _where(rows, own_netns)
    wanted = filter_text(rows, flows)
    if rows.endings is not None:
        note = "it is closed: ss shows it no longer"
    return OtherTools(
        (
            Command("ss", inside + _ss(socket, has_twins(rows, flows))),
            Command("tcpdump", inside + shlex.join(["tcpdump", "-ni", "any", _packets(socket)])),
            Command("tcptop-ops", shlex.join(["tcptop-ops", "-f", wanted])),
            Command("the filter alone", wanted),
        ),
        note,
    )


def _where(rows: Rows, own_netns: int) -> tuple[str, str]:
    """Return the prefix that enters the connection's network namespace, and a note if no process there is known."""
    netns, pid = int(rows.sockets["netns"][0]), int(rows.owners["pid"][0])
    if not own_netns or not netns or netns == own_netns:
        return "", ""
    if pid and rows.endings is None:
        return IN_NAMESPACE.format(pid=pid), ""
    return "", f"ss and tcpdump have to run in its network namespace, {netns}: no process is known to enter it through"


def has_twins(rows: Rows, flows: Flows) -> bool:
    """Return whether other rows have the same addresses and ports: SO_REUSEPORT listeners, or two devices' sockets."""
    socket, count = rows.sockets[0], 0
    for part in (flows.live, flows.closed):
        same = np.ones(len(part), np.bool_)
        for name in _SAME:
            equal = part.sockets[name] == socket[name]
            same &= equal if equal.ndim == 1 else equal.all(axis=1)
        count += int(np.count_nonzero(same))
    return count > 1


def _ss(socket: Records, has_twins: bool) -> str:
    """Return the ss command (ss(8), FILTER).

    An IPv4 address matches IPv4-mapped ones too, 0.0.0.0 and [::] only themselves; a scope is a syntax error. Twins
    differ only in the cookie, ``sk:`` in the output of -e; -O prints one line per socket.
    """
    options = "-tlinH" if socket["state"] == State.LISTEN else "-tinH"
    here, there = _ends(socket)
    wanted = f"src {here}" + (f" and dst {there}" if socket["state"] != State.LISTEN else "")
    if not has_twins:
        return shlex.join(["ss", options, wanted])
    return f"{shlex.join(['ss', options + 'eO', wanted])} | grep -w sk:{int(socket['cookie']):x}"


def _packets(socket: Records) -> str:
    """Return a capture filter (pcap-filter(7)) of both ends; for a listener its port, and its address if it has one."""
    ends = [("laddr", "lport")] if socket["state"] == State.LISTEN else [("laddr", "lport"), ("raddr", "rport")]
    parts = ["tcp"]
    for address, port in ends:
        host = [f"host {_address(socket[address])}"] if not is_unspecified(bytes(socket[address])) else []
        parts += [*host, f"port {int(socket[port])}"]
    return " and ".join(parts)


def filter_text(rows: Rows, flows: Flows) -> str:
    """Return a filter of this program that matches this connection only.

    It names the network namespace if there are several, and the cookie if there are twins. A scope is the interface
    index: ``[fe80::1%2]:22``.
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
    """Return the local and the remote endpoint as text. ``scope`` is appended to link-local addresses."""
    here, there = (
        text.endpoint(_address(socket[f"{side}addr"], scope), str(int(socket[f"{side}port"]))) for side in "lr"
    )
    return here, there


def _address(packed: Records, scope: str = "") -> str:
    raw = bytes(packed)
    return str(find("laddr").plain(raw)) + (scope if is_link_local(raw) else "")
