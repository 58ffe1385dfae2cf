"""By what rows are grouped: the keys, their titles, and the filter that selects a group."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.model.addresses import are_link_local, are_mapped, halves, is_link_local, is_mapped
from tcptop_ops.model.arrays import bound_to, device_keys, distinct, find_sorted
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.records import Records
from tcptop_ops.model.services import service_of
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_readers import cgroup_ids, command, process

Words = NDArray[np.uint64]
"""The keys of rows: uint64, shape (rows, words per key)."""


NOT_KNOWN = "(not known)"


LISTENERS = "(listeners)"


COMMAND_WORDS = 16
"""Words of what a process runs: 128 bytes, which 64 characters rarely exceed."""


LABEL_WORDS = 4
"""Words of a cgroup's label that keys are sorted by: 32 bytes."""


@dataclass(frozen=True)
class GroupKey:
    """A way to group rows.

    ``words`` returns the keys of rows. ``title`` and ``condition`` take one row of the group (Rows of length 1):
    ``condition`` is a filter of column ``narrows`` that selects the group. ``narrows`` is "" if no filter can.
    """

    what: str
    words: Callable[[Rows, Flows], Words]
    title: Callable[[Rows, Flows], str]
    narrows: str = ""
    condition: Callable[[Rows, Flows], str] = lambda _rows, _flows: ""
    ends_tell: bool = False  # shorten titles in the middle: their ends tell them apart


# By the name of the process, so that the workers of a server are one group


def process_words(rows: Rows, flows: Flows) -> Words:
    """Return the processes' names as words (n, 5): rows of one name have equal words."""
    names = np.ascontiguousarray(process(rows, flows), "S40")
    return names.view(">u8").astype("u8").reshape(len(rows), 5)


def _process_title(rows: Rows, flows: Flows) -> str:
    return text.printable(bytes(process(rows, flows)[0])) or NOT_KNOWN


def _process_condition(rows: Rows, flows: Flows) -> str:
    name = bytes(process(rows, flows)[0]).decode("utf-8", "surrogateescape")
    return f"process = {_quoted(name)}" if name else "not process ~ ."


def _quoted(name: str) -> str:
    """Quote a name for the filter language, if it needs quotes."""
    if name.replace("-", "").replace("_", "").isalnum() and name.lower() not in ("and", "or", "not"):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


# By what the process runs, so that ten of one interpreter are told apart


def _command_words(rows: Rows, flows: Flows) -> Words:
    """Return what each process runs as words (n, COMMAND_WORDS)."""
    commands = np.ascontiguousarray(command(rows, flows).astype(f"S{8 * COMMAND_WORDS}"))
    return commands.view(">u8").astype("u8").reshape(len(rows), COMMAND_WORDS)


def _command_title(rows: Rows, flows: Flows) -> str:
    return text.printable(bytes(command(rows, flows)[0])) or NOT_KNOWN


def _command_condition(rows: Rows, flows: Flows) -> str:
    found = bytes(command(rows, flows)[0]).decode("utf-8", "surrogateescape")
    return f"command = {_quoted(found)}" if found else "not command ~ ."


# By remote address; a link-local one is unique only within a device and namespace. Listeners are a group of their own


def remote_words(rows: Rows, _: Flows) -> Words:
    """Return words (n, 4) of remote addresses: 1, both halves, device. Zeros for listeners and where there is none."""
    sockets = rows.sockets
    high, low = halves(sockets["raddr"])
    scope = np.where(are_link_local(high), device_keys(sockets), np.uint64(0))
    words = np.column_stack([np.ones(len(rows), "u8"), high, low, scope])
    words[_without_remote(sockets) | (high | low == 0)] = 0
    return words


def _net_words(rows: Rows, flows: Flows) -> Words:
    words = remote_words(rows, flows)
    high, low = words[:, 1], words[:, 2]
    words[:, 2] = np.where(are_mapped(high, low), low & ~np.uint64(0xFF), np.uint64(0))
    return words


def _without_remote(sockets: Records) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (sockets["state"] == State.LISTEN) | (sockets["rport"] == 0)
    return found


def _remote_title(rows: Rows, flows: Flows) -> str:
    if not remote_words(rows, flows).any():
        return LISTENERS
    column = find("raddr")
    return column.show(column.read(rows, flows).tolist()[0])


def _net_title(rows: Rows, flows: Flows) -> str:
    if not remote_words(rows, flows).any():
        return LISTENERS
    _, scoped, device = _remote_title(rows, flows).partition("%")
    return _net(rows, scoped + device)


def _net(rows: Rows, scope: str) -> str:
    """Return the /24 or the /64 of the remote address. ``scope``: "%" and the interface, or ""."""
    packed = rows.sockets["raddr"][0].tobytes()
    if is_mapped(packed):
        return f"{ipaddress.IPv4Address(packed[12:15] + bytes(1))}/24"
    return f"{ipaddress.IPv6Address(packed[:8] + bytes(8))}{scope}/64"


def _remote_condition(rows: Rows, flows: Flows) -> str:
    if not remote_words(rows, flows).any():
        return ""
    packed = rows.sockets["raddr"][0].tobytes()
    if is_mapped(packed):
        return f"raddr = {ipaddress.IPv4Address(packed[12:])}"
    return f"raddr = {ipaddress.IPv6Address(packed)}{_scope(packed, rows.sockets)}"


def _net_condition(rows: Rows, flows: Flows) -> str:
    if not remote_words(rows, flows).any():
        return ""
    return f"raddr = {_net(rows, _scope(rows.sockets['raddr'][0].tobytes(), rows.sockets))}"


def _scope(packed: bytes, sockets: Records) -> str:
    return f"%{sockets['ifindex'][0]}" if is_link_local(packed) and sockets["ifindex"][0] else ""


# By the port of the service: the local port of incoming connections, the remote port of outgoing ones


def _goes_out(rows: Rows, flows: Flows) -> NDArray[np.bool_]:
    """Return whether each connection was opened by this host, as ``NDArray[np.bool_]``.

    A connection adopted in the middle of its life counts as outgoing if nothing listens on its local port.
    """
    sockets, direction = rows.sockets, rows.events["direction"]
    live = flows.live.sockets
    doors = np.unique(bound_to(live[live["state"] == State.LISTEN]))
    found: NDArray[np.bool_] = direction == Direction.OUT
    unsure = np.flatnonzero((direction == Direction.UNKNOWN) & ~_without_remote(sockets))
    found[unsure] = ~find_sorted(doors, bound_to(sockets)[unsure])[1]
    return found & ~_without_remote(sockets)


def _port_words(rows: Rows, flows: Flows) -> Words:
    out = _goes_out(rows, flows)
    ports = np.where(out, rows.sockets["rport"], rows.sockets["lport"])
    return np.column_stack([out, ports]).astype("u8")


def _port_title(rows: Rows, flows: Flows) -> str:
    out, port = _port_words(rows, flows)[0].tolist()
    return f"-> :{port}" if out else f":{port}"


# By the service or container of the cgroup; if it stands for none, by its path


def _cgroup_label(number: int, flows: Flows) -> bytes:
    path = flows.snapshot.cgroups.get(number, "")
    return (service_of(path) or path).encode("utf-8", "surrogateescape")


def _cgroup_words(rows: Rows, flows: Flows) -> Words:
    """Return the beginning of each row's label, which sorts it, and a digest of the whole label."""
    ids = cgroup_ids(rows)
    occurring = distinct(ids)
    table = np.zeros((len(occurring), LABEL_WORDS + 1), "u8")
    for place, number in enumerate(occurring.tolist()):
        label = _cgroup_label(number, flows)
        if label:
            digest = blake2b(label, digest_size=8).digest()
            table[place] = np.frombuffer(label[: 8 * LABEL_WORDS].ljust(8 * LABEL_WORDS, b"\0") + digest, ">u8")
    return table[np.searchsorted(occurring, ids)]


def _cgroup_title(rows: Rows, flows: Flows) -> str:
    return text.printable(_cgroup_label(int(cgroup_ids(rows)[0]), flows)) or NOT_KNOWN


# By TCP state


def _state_words(rows: Rows, _: Flows) -> Words:
    words: Words = rows.sockets["state"].astype("u8")[:, None]
    return words


def _state_title(rows: Rows, flows: Flows) -> str:
    name = find("state").read(rows, flows).tolist()[0]
    return str(name.decode()) or NOT_KNOWN


GROUP_KEYS: dict[str, GroupKey] = {
    "process": GroupKey("processes of one name", process_words, _process_title, "process", _process_condition),
    "command": GroupKey("what processes run", _command_words, _command_title, "command", _command_condition),
    "remote": GroupKey("remote address", remote_words, _remote_title, "raddr", _remote_condition, True),
    "remote-net": GroupKey(
        "network of the remote address: /24, /64", _net_words, _net_title, "raddr", _net_condition, True
    ),
    "local-port": GroupKey("port of the service: the local one, or -> the remote", _port_words, _port_title),
    "cgroup": GroupKey("service, container or control group", _cgroup_words, _cgroup_title, ends_tell=True),
    "state": GroupKey("TCP state", _state_words, _state_title),
}
"""The ways to group, by name. With ``none``, which means no grouping, the names are those of ``settings.GROUPS``."""
