"""What a source tells at one moment: Snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import copied
from tcptop_ops.model.host_counters import HOST
from tcptop_ops.model.namespace_addresses import no_addresses
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import HAPPENING, SEEN, SOCKET, Records
from tcptop_ops.model.used_ports import USED_PORTS


@dataclass(frozen=True)
class Snapshot:
    """All TCP sockets at one instant. The Source owns the arrays and may write them again at its second next poll.

    ``changed``: indices, rising, of the rows whose socket was not in the last snapshot, or that may tell something else
    of it than there, be it in ``sockets``, ``events`` or ``owners``. What only goes on with time is no change:
    last_sent_us, last_received_us, last_ack_received_us, timer_us.

    What is to be kept for longer is a ``copy``. ``events[i]`` and ``owners[i]`` belong to ``sockets[i]``; where
    ``first_ns`` of events, or ``pid`` of owners, is 0 nothing is known. ``closed``: the connections that ended since
    the last snapshot.
    """

    time: float  # CLOCK_REALTIME, seconds
    now_ns: int  # CLOCK_MONOTONIC
    source: str  # name of the Source: sockops, sockdiag
    sockets: Records  # SOCKET
    events: Records  # EVENTS
    owners: Records  # OWNED
    closed: Records  # FINAL
    counters: Records  # a single COUNTERS, summed over the CPUs
    changed: NDArray[np.intp] | None = None  # see below; None: every row may have changed
    closed_owners: Records | None = None  # OWNED, aligned with closed; None: take those in closed["events"]
    callbacks_mode: str = ""  # a key of bpf.attach.MODES, or bpf.load_shedding.LIGHT; "" without a sock_ops program
    opened: int = 0  # connections since the last snapshot
    time_wait: int = 0  # sockets in TIME-WAIT, which have no row
    syn_recv: int = 0  # request sockets, which have no row
    half_open: Records = field(default_factory=lambda: np.zeros(0, SOCKET))  # request sockets: addresses and ports only
    namespaces: int = 1  # network namespaces seen
    namespace_counters: Records = field(default_factory=lambda: np.zeros(0, NETNS))  # NETNS: those that were read
    host_counters: Records = field(default_factory=lambda: np.zeros(0, HOST))  # HOST: one row, or none
    used_ports: Records = field(default_factory=lambda: np.zeros(0, USED_PORTS))  # where few are left
    addresses: Records = field(default_factory=no_addresses)  # ADDRESS: of namespaces where attempts may wait
    missing: frozenset[str] = field(default_factory=frozenset)  # columns that this source cannot fill
    notes: tuple[str, ...] = ()  # what a user should know about this source, a line each
    users: Mapping[int, str] = field(default_factory=dict)  # uid -> name
    cgroups: Mapping[int, str] = field(default_factory=dict)  # cgroup id -> path below the mount
    devices: Mapping[int, str] = field(default_factory=dict)  # device_keys -> name
    namespace_names: Mapping[int, str] = field(default_factory=dict)  # inode of a network namespace -> name, if any
    commands: Mapping[int, str] = field(default_factory=dict)  # process_keys -> what it runs, in short
    activities: Mapping[int, str] = field(default_factory=dict)  # process_keys -> what it does, of a few processes
    watched: int = 0  # cookie of the connection whose details are shown; 0: none
    story: Records = field(default_factory=lambda: np.zeros(0, HAPPENING))  # of ``watched``, oldest first: a new array
    seen: Records = field(default_factory=lambda: np.zeros(2, SEEN))  # by SeenRow
    poll_s: float = 0.0  # how long the poll took, seconds
    program_ns: int = 0  # run time of the sock_ops program so far; counts only while it is measured: Source.measure
    program_calls: int = 0  # its calls so far, counted alike

    def copy(self) -> Snapshot:
        """Return the same in arrays and mappings of its own.

        Whoever keeps a snapshot needs one: a Source lists 100,000 sockets into one of two arrays in turn, so that at
        its second next poll those of this snapshot are overwritten; names are added to its mappings.
        """
        kept: dict[str, Any] = {
            one.name: copied(np.asarray(value)) if isinstance(value, (np.ndarray, np.void)) else dict(value)
            for one in dataclass_fields(self)
            if isinstance(value := getattr(self, one.name), (np.ndarray, np.void, Mapping))
        }
        return replace(self, **kept)
