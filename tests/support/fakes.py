"""A source of made-up snapshots, for tests of what comes after the kernel."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from tcptop_ops.errors import TcptopError
from tcptop_ops.model.enums import Direction, Origin, OwnerKind, State
from tcptop_ops.model.records import COUNTERS, EVENTS, FINAL, OWNED, SOCKET, UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot

BOOT_NS = 1_000_000_000_000


def packed(address: str) -> list[int]:
    """16 bytes, IPv4 mapped."""
    ip = ipaddress.ip_address(address)
    return list(b"\0" * 10 + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed)


def flow(cookie: int, **fields: Any) -> dict[str, Any]:
    """One connection: fields of SOCKET, EVENTS and OWNED by name; ``local`` and ``peer`` as (address, port)."""
    plain: dict[str, Any] = {
        "cookie": cookie,
        "state": State.ESTABLISHED,
        "family": 2,
        "local": ("10.0.0.1", 40000 + cookie % 20000),
        "peer": ("10.0.0.2", 443),
        "srtt_us": 30_000,
        "min_rtt_us": 20_000,
        "cwnd": 10,
        "mss": 1448,
        "total_rto": UNKNOWN_U32,
        "pid": 1000,
        "name": b"nginx",
        "how": OwnerKind.HOLDER,
        "origin": Origin.NEW,
        "direction": Direction.OUT,
        "first_ns": BOOT_NS,
    }
    return plain | fields


def records(flows: list[dict[str, Any]]) -> tuple[Records, Records, Records]:
    """SOCKET, EVENTS and OWNED rows."""
    sockets, events, owners = (np.zeros(len(flows), dtype) for dtype in (SOCKET, EVENTS, OWNED))
    for i, fields in enumerate(flows):
        for side, key in (("l", "local"), ("r", "peer")):
            sockets[i][side + "addr"] = packed(fields[key][0])
            sockets[i][side + "port"] = fields[key][1]
        for array in (sockets, events, owners):
            for name in array.dtype.names or ():
                if name in fields:
                    array[i][name] = fields[name]
        events[i]["pid"], events[i]["comm"] = fields["pid"], fields["name"]
    return sockets, events, owners


def finals(flows: list[dict[str, Any]], end_ns: int, **ending: Any) -> Records:
    """FINAL rows: these flows closed at ``end_ns``."""
    sockets, events, _ = records(flows)
    final = np.zeros(len(flows), FINAL)
    final["socket"], final["events"] = sockets, events
    final["ending"]["end_ns"] = end_ns
    for name, value in ({"from_state": State.LAST_ACK} | ending).items():
        final["ending"][name] = value
    return final


def snapshot(seconds: float, flows: list[dict[str, Any]], closed: Records | None = None, **rest: Any) -> Snapshot:
    """The instant ``seconds`` after the start."""
    sockets, events, owners = records(flows)
    rest.setdefault("counters", np.zeros((), COUNTERS))
    rest.setdefault("callbacks_mode", "all")
    return Snapshot(
        time=1_700_000_000.0 + seconds,
        now_ns=BOOT_NS + int(seconds * 1e9),
        source="fake",
        sockets=sockets,
        events=events,
        owners=owners,
        closed=np.zeros(0, FINAL) if closed is None else closed,
        **rest,
    )


class FakeSource:
    """Plays snapshots one after the other; the last one again and again, a second later each time."""

    name = "fake"

    def __init__(self, snapshots: list[Snapshot]) -> None:
        self._snapshots = snapshots
        self.polls = 0
        self.closed = False
        self.asked_to_close: list[int] = []
        self.refusal: TcptopError | None = None

    def poll(self) -> Snapshot:
        at = self.polls
        self.polls += 1
        return self._snapshots[min(at, len(self._snapshots) - 1)]

    def watch(self, cookie: int) -> None:
        """Which connection is looked at."""
        self.watched = cookie

    def measure(self, on: bool) -> None:
        """Whether the cost is measured."""
        self.measured = on

    def close_connection(self, sock: Any) -> None:
        """Remembers which (``asked_to_close``), and raises ``refusal`` if there is one."""
        self.asked_to_close.append(int(sock["cookie"]))
        if self.refusal is not None:
            raise self.refusal

    def drain(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


HOSTILE = (b"nginx", b"\x1b[2Jevil", b"\xff\xfe\x9b31m", b'"\\\r\n\t\x07', b"\x7f\xc2\x9b1A", "–é\u202e".encode(), b"")
"""Names that a process may give itself; cut to 16 bytes by the kernel, in the middle of a character too."""


def scramble(rows: Records, rng: np.random.Generator) -> None:
    """Fill every field with zeros, with ones, or with any bits; names with hostile ones."""
    for name in rows.dtype.names or ():
        field = rows[name]
        if field.dtype.names:
            scramble(field, rng)
        elif field.dtype.kind == "S":
            field[...] = np.array(HOSTILE, field.dtype)[rng.integers(0, len(HOSTILE), field.shape)]
        else:
            anything = rng.integers(0, 256, (*field.shape, field.dtype.itemsize), np.uint8).view(field.dtype)[..., 0]
            choice = rng.integers(0, 3, len(rows)).reshape(-1, *[1] * (field.ndim - 1))
            field[...] = np.choose(choice, [np.zeros_like(field), ~np.zeros_like(field), anything])


def scrambled(count: int, seed: int, seconds: float = 0.0, **rest: Any) -> Snapshot:
    """A snapshot of arbitrary rows, half of them closed: for what must hold whatever the kernel says."""
    rng = np.random.default_rng(seed)
    made = snapshot(seconds, [flow(1)] * count, finals([flow(1)] * count, BOOT_NS), **rest)
    for part in (made.sockets, made.events, made.owners, made.closed):
        scramble(part, rng)
    return made
