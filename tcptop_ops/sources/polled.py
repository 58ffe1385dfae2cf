"""The source that needs neither root nor BPF: a dump of sock_diag each tick."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf import cgroup
from tcptop_ops.bpf.helper import OWN
from tcptop_ops.errors import Unsupported
from tcptop_ops.host.activities import Activities
from tcptop_ops.host.host_counters import HostCounters
from tcptop_ops.host.namespace_addresses import NamespaceAddresses
from tcptop_ops.host.namespace_counters import NamespaceCounters
from tcptop_ops.host.namespace_names import NamespaceNames
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.host.processes import Commands, Users
from tcptop_ops.model.arrays import distinct, find_sorted, gather
from tcptop_ops.model.namespace_addresses import no_addresses
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import COUNTERS, EVENTS, FINAL, OWNED, UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.model.used_ports import USED_PORTS
from tcptop_ops.sources import inet_diag
from tcptop_ops.sources.cgroup_follow import CgroupMembers, FollowedCgroup
from tcptop_ops.sources.inet_diag import Dump, DumpBuffer
from tcptop_ops.sources.sock_diag import SockDiag, close_connection
from tcptop_ops.sources.used_ports import UsedPorts

# Members of tcp_info that older kernels lack, and the columns that are empty without them.
_FED = {
    "bytes_acked": ("bytes_acked", "tx_bytes_per_s"),
    "bytes_received": ("bytes_received", "rx_bytes_per_s"),
    "min_rtt_us": ("min_rtt_us",),
    "notsent": ("notsent",),
    "delivery_rate": ("delivery_bytes_per_s",),
    "data_segs_out": ("retrans_pct",),
    "busy_us": ("busy_pct",),
    "rwnd_limited_us": ("rwnd_limited_pct",),
    "sndbuf_limited_us": ("sndbuf_limited_pct",),
    "dsack_dups": ("dsack_dups",),
    "reord_seen": ("reord_seen",),
    "ooo_in": ("ooo_in",),
    "snd_wnd": ("snd_wnd",),
    "rcv_wnd": ("rcv_wnd",),
    "total_rto": ("rto_events", "rto_win"),
    "delivered_ce": ("ce_pct",),
}


class Dumps(Protocol):
    """What lists the sockets for SockDiagSource: a SockDiag, or ``namespace_dump.EveryNamespace``."""

    def dump(self, *, rows: DumpBuffer | None = None) -> Dump:
        """List all sockets. The result's array may be a part of ``rows``."""
        ...

    def half_open(self) -> Records:
        """Return the request sockets as SOCKET rows, addresses and ports only."""
        ...

    def devices(self, sockets: Records) -> Mapping[int, str]:
        """Return the names of the devices that these sockets are bound to, by ``device_keys``, as far as known."""
        ...

    def close(self) -> None:
        """Close the netlink sockets."""
        ...


class SocketOwners(Protocol):
    """What finds whose the sockets are: ``descriptors.PolledOwners``."""

    @property
    def note(self) -> str:
        """What a user should know; "" for nothing."""
        ...

    def of(self, sockets: Records) -> Records:
        """Return the OWNED rows of these SOCKET rows."""
        ...

    def of_closed(self, sockets: Records) -> Records:
        """Return the OWNED rows of SOCKET rows that are gone."""
        ...


@dataclass(frozen=True)
class _Poll:
    """The result of a poll, to compare the next one with."""

    sockets: Records  # SOCKET
    owners: Records  # OWNED, aligned with sockets
    order: NDArray[np.intp]  # indices that sort them by cookie

    @property
    def cookies(self) -> NDArray[np.uint64]:
        """The cookies, sorted."""
        found: NDArray[np.uint64] = self.sockets["cookie"][self.order]
        return found


class SockDiagSource:
    """A Source that only polls sock_diag, in the network namespaces that ``diag`` lists."""

    name = "sockdiag"

    def __init__(
        self,
        diag: Dumps | None = None,
        owners: SocketOwners | None = None,
        reach: NamespaceAccess | None = None,
        followed: FollowedCgroup | None = None,
    ) -> None:
        """Take what lists the sockets (``diag``), by default a SockDiag of this process's namespace.

        ``owners`` finds whose the sockets are; None: that is not asked for. ``reach`` is closed at the end.
        ``followed``: the cgroup whose sockets are wanted; None: all.
        """
        self._diag: Dumps = diag or SockDiag(netns=os.stat(OWN).st_ino)
        self._reach = reach
        self._namespace_counters = NamespaceCounters(reach) if reach is not None else None
        self._host_counters = HostCounters()
        self._used_ports = UsedPorts(reach) if reach is not None else None
        self._addresses = NamespaceAddresses(reach) if reach is not None else None
        self._followed = followed
        self._members = None if followed is None else CgroupMembers(followed.path)
        self._owners = owners
        self._users, self._commands = Users(), Commands()
        self._namespace_names = NamespaceNames()
        self._paths = _cgroup_paths()
        self._activities = Activities(None if self._paths is None else self._paths.mount)
        self._rows = (DumpBuffer(), DumpBuffer())  # of the last poll, and of the one before, which is free again
        self._before: _Poll | None = None

    def poll(self) -> Snapshot:
        """Return the present snapshot (see Source). Its events are empty; sockets that are gone count as closed."""
        start = time.perf_counter()
        dump = self._diag.dump(rows=self._rows[1])
        now, now_ns = time.time(), time.monotonic_ns()
        found = self._sorted(self._wanted(dump.sockets))
        gone = _gone(self._before, found)
        closed, closed_owners = _closed(self._before, gone, now_ns, self._owners)
        opened = len(found.sockets) - len(self._before.sockets) + len(gone) if self._before else 0
        missing, notes = _limits(dump, self._owners is not None, self._paths is not None)
        self._rows, self._before = self._rows[::-1], found
        half_open = self._diag.half_open() if dump.syn_recv else dump.sockets[:0]
        counted = self._counted(found.sockets, half_open, closed["socket"])
        return Snapshot(
            time=now,
            now_ns=now_ns,
            source=self.name,
            sockets=found.sockets,
            events=np.zeros(len(found.sockets), EVENTS),
            owners=found.owners,
            closed=closed,
            closed_owners=closed_owners,
            counters=np.zeros((), COUNTERS),
            opened=opened,
            time_wait=dump.time_wait,
            syn_recv=dump.syn_recv,
            half_open=half_open,
            namespace_counters=counted,
            host_counters=self._host_counters.read(),
            used_ports=np.zeros(0, USED_PORTS)
            if self._used_ports is None
            else self._used_ports.read(counted, found.sockets),
            addresses=no_addresses() if self._addresses is None else self._addresses.read(found.sockets),
            namespaces=max(1, len(distinct(found.sockets["netns"]))),
            missing=missing,
            notes=self._notes(notes),
            users=self._users.learn(found.sockets["uid"]),
            cgroups=self._paths.learn(set(distinct(found.sockets["cgroup_id"]).tolist())) if self._paths else {},
            devices=self._diag.devices(found.sockets),
            namespace_names=self._namespace_names.read(),
            commands=self._commands.learn(found.owners, closed_owners),
            activities=self._activities.read(found.sockets, found.owners),
            poll_s=time.perf_counter() - start,
        )

    def _counted(self, sockets: Records, half_open: Records, closed: Records) -> Records:
        """Return the rows of NETNS of these SOCKET rows; none where namespaces are not reached."""
        if self._namespace_counters is None:
            return np.zeros(0, NETNS)
        return self._namespace_counters.read(sockets, half_open, closed)

    def _wanted(self, sockets: Records) -> Records:
        """Return those of the cgroup, if one was asked for."""
        if self._followed is None or self._members is None:
            return sockets
        self._followed.look()
        return gather(sockets, self._members.among(sockets["cgroup_id"]))

    def _notes(self, limits: tuple[str, ...]) -> tuple[str, ...]:
        followed = self._followed.note if self._followed else ""
        others = (one.note for one in (self._reach, self._owners) if one is not None)
        return tuple(note for note in (followed, *limits, *others) if note)

    def _sorted(self, sockets: Records) -> _Poll:
        """Return the sockets with their owners and order, each socket once.

        If a bucket of the kernel's hash table changes between two parts of a dump, which resumes at a position in the
        bucket (cb->args[2] of inet_diag_dump_icsk()), a socket can be listed twice.
        """
        order = np.argsort(sockets["cookie"], kind="stable")
        cookies = sockets["cookie"][order]
        again = order[1:][cookies[1:] == cookies[:-1]]
        if len(again):
            return self._sorted(np.delete(sockets, again))
        owners = np.zeros(len(sockets), OWNED) if self._owners is None else self._owners.of(sockets)
        return _Poll(sockets, owners, order)

    def drain(self) -> None:
        """Do nothing: there is no ring buffer."""

    def watch(self, cookie: int) -> None:
        """Do nothing: there are no further details."""

    def measure(self, on: bool) -> None:
        """Do nothing: there is no BPF program."""

    def close_connection(self, sock: Records) -> None:
        """Close the connection of this row (see Source)."""
        close_connection(self._reach, sock)

    def close(self) -> None:
        """Close the netlink sockets and the reach."""
        self._diag.close()
        if self._namespace_counters is not None:
            self._namespace_counters.close()
        self._host_counters.close()
        self._namespace_names.close()
        if self._reach is not None:
            self._reach.close()


def _cgroup_paths() -> cgroup.Paths | None:
    try:
        return cgroup.Paths(cgroup.root())
    except Unsupported:
        return None


def _gone(before: _Poll | None, now: _Poll) -> NDArray[np.intp]:
    """Return the indices of the last poll's rows whose sockets are no longer there, ascending."""
    if before is None:
        return np.zeros(0, np.intp)
    _, there = find_sorted(now.cookies, before.cookies)
    return np.sort(before.order[~there])


def _closed(
    before: _Poll | None, gone: NDArray[np.intp], now_ns: int, owners: SocketOwners | None
) -> tuple[Records, Records]:
    """Return FINAL rows of the last poll's rows ``gone``, and their OWNED rows. How they ended is not known."""
    closed = np.zeros(len(gone), FINAL)
    if before is None:
        return closed, np.zeros(0, OWNED)
    closed["socket"] = before.sockets[gone]
    closed["ending"]["end_ns"] = now_ns
    closed["ending"]["error"] = UNKNOWN_U32
    closed["ending"]["from_state"] = closed["socket"]["state"]
    return closed, before.owners[gone] if owners is None else owners.of_closed(closed["socket"])


def _limits(dump: Dump, owned: bool, named: bool) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the columns that stay empty, and the reasons, one line each.

    ``owned``: owners are asked for; ``named``: a cgroup v2 hierarchy was found.
    """
    missing = {"direction", "end", "connect_ms", "age_s", "last_rtt_us", "stall_ms"}
    notes = [
        "sockdiag sees what is open at a tick: not who opened it or when, how it ended, or what came between ticks"
    ]
    if not owned:
        missing |= {"pid", "process", "command"}
        notes.append("whose the sockets are is not asked for")
    if not named or (not dump.cgroups and len(dump.sockets)):
        missing |= {"cgroup", "service"}
        notes.append("cgroups are not known: it takes cgroup v2, mounted, and Linux 5.8")
    unfed = {
        column for name, columns in _FED.items() if inet_diag.info_end(name) > dump.info_bytes for column in columns
    }
    if unfed:
        notes.append(f"this kernel's tcp_info has {dump.info_bytes} bytes and lacks {', '.join(sorted(unfed))}")
    return frozenset(missing | unfed), tuple(notes)
