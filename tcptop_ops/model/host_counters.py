"""What the kernel counts for the host as a whole, and the limits there: their dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tcptop_ops.model.namespace_counters import none_known
from tcptop_ops.model.records import Records

COUNTERS = (
    "backlog_packets",  # packets that the processors have handled, all protocols (softnet_data.processed)
    "backlog_drops",  # packets dropped: the input queue of a processor was full (enqueue_to_backlog())
)
"""Names of counters since the host was started, of /proc/net/softnet_stat (softnet_seq_show()), over all processors."""

GAUGES = (
    "tcp_mem_pages",  # memory of all TCP sockets, pages: tcp_memory_allocated
    "sockets",  # TCP sockets, TIME-WAIT left out: tcp_sockets_allocated
    "orphans",  # those that no process holds: tcp_orphan_count
    "files",  # open files of all kinds, /proc/sys/fs/file-nr
)
"""Names of numbers of now: the first three of /proc/net/sockstat (sockstat_seq_show(), net/ipv4/proc.c)."""

LIMITS = (
    "tcp_mem_low",  # net.ipv4.tcp_mem: below it pressure ends
    "tcp_mem_pressure",  # its second figure: above it buffers shrink (tcp_enter_memory_pressure())
    "tcp_mem_high",  # its third: above it memory is refused, and orphans are reset (tcp_out_of_memory())
    "max_orphans",  # net.ipv4.tcp_max_orphans
    "max_files",  # fs.file-max
)
"""Names of sysctls; 0: not known. All but the last are shown in the first network namespace alone."""

HOST = np.dtype([(name, "u8") for name in (*COUNTERS, *GAUGES, *LIMITS)])
"""The host as it was read: one row, or none where nothing could be read."""


@dataclass(frozen=True)
class HostTick:
    """The host at a tick: what it holds, and what its network namespaces and itself have counted."""

    now: Records = field(default_factory=lambda: np.zeros(0, HOST))  # HOST: one row, or none
    grown: Mapping[str, int] = field(default_factory=dict)  # COUNTERS within W
    namespaces: Records = field(default_factory=none_known)  # NET_OF, sorted: the growth of each within W
    settled: Records = field(default_factory=none_known)  # the same two seconds ago, or at the last tick before
    seconds: float = 0.0  # how much of W was seen; 0 at the first tick
    since_start: Mapping[str, int] = field(default_factory=dict)  # all counters by name, since the first tick
