"""The few figures that tell how the host as a whole is doing, and what each of them means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["memory", "tables", "listeners", "packets"]
GROUPS: dict[Group, str] = {
    "memory": "MEMORY",
    "tables": "SOCKETS, TABLES",
    "listeners": "LISTENERS",
    "packets": "PACKETS",
}
"""What belongs together, with its title."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of the host. ``worst``: its level (0 none, 1 warning, 2 bad) where it is near its limit, or grows."""

    name: str  # in JSON, and for --explain
    title: str  # on the screen
    group: Group
    short: str  # what is counted, beside the title: 33 characters at most
    means: str  # the same for itself
    tells: str  # what follows from it, and what to do
    source: str  # where the kernel keeps or counts it
    worst: int = 0
    counter: str = ""  # of the growth of NETNS, or of HOST; "": a number of now
    gauge: str = ""  # of HOST, or of NETNS
    limit: str = ""  # of HOST, or of NETNS

    @property
    def is_counter(self) -> bool:
        """Whether its value is the growth of a counter within W, and not a number of now."""
        return bool(self.counter)


FIGURES: tuple[Figure, ...] = (
    Figure(
        name="tcp_mem_pages",
        title="memory, pages",
        group="memory",
        gauge="tcp_mem_pages",
        limit="tcp_mem_pressure",
        worst=2,
        short="memory of all TCP sockets",
        means="memory of all TCP sockets, against the pressure figure of tcp_mem",
        tells="From the second of the three figures of net.ipv4.tcp_mem on buffers shrink and windows close; above the "
        "third, memory is refused and orphans are reset. Look for the sockets that hold it: sort by recv_q and send_q.",
        source="sockstat: mem; net.ipv4.tcp_mem",
    ),
    Figure(
        name="memory_pressures",
        title="pressure begun",
        group="memory",
        counter="memory_pressures",
        worst=2,
        short="how often pressure began",
        means="how often memory pressure of all TCP sockets began",
        tells="All connections of the host get smaller buffers for as long as it lasts, in all namespaces.",
        source="netstat: TCPMemoryPressures; tcp_enter_memory_pressure()",
    ),
    Figure(
        name="aborts_on_memory",
        title="reset for memory",
        group="memory",
        counter="abort_on_memory",
        worst=2,
        short="reset: orphans, or no memory",
        means="connections reset: too many orphans, or no memory",
        tells="The kernel gives up connections that no process holds when there are more than "
        "net.ipv4.tcp_max_orphans, or when memory is above the third figure of net.ipv4.tcp_mem.",
        source="netstat: TCPAbortOnMemory; tcp_check_oom()",
    ),
    Figure(
        name="receive_queues_pruned",
        title="receive queues pruned",
        group="memory",
        counter="prune_called",
        worst=1,
        short="full receive buffers compacted",
        means="a socket's receive buffer was used up, and was compacted",
        tells="More arrives than its buffer has room for, since the process reads late or the buffer is small "
        "(SO_RCVBUF, net.ipv4.tcp_rmem), or since memory is under pressure.",
        source="netstat: PruneCalled; tcp_prune_queue()",
    ),
    Figure(
        name="tcp_sockets",
        title="TCP sockets",
        group="tables",
        gauge="sockets",
        short="in use, TIME-WAIT left out",
        means="TCP sockets that are in use, without TIME-WAIT",
        tells="Sockets of all network namespaces of the host, those that nobody reaches from here included.",
        source="sockstat: alloc",
    ),
    Figure(
        name="orphans",
        title="orphans",
        group="tables",
        gauge="orphans",
        limit="max_orphans",
        worst=2,
        short="held by no process any more",
        means="connections that no process holds any more, yet not done",
        tells="Their process closed them or ended while data or a FIN was on its way. Above net.ipv4.tcp_max_orphans, "
        "and for peers that do not answer from a quarter of it on, they are reset.",
        source="sockstat: orphan; tcp_too_many_orphans()",
    ),
    Figure(
        name="time_wait",
        title="TIME-WAIT",
        group="tables",
        gauge="tw",
        limit="max_tw_buckets",
        worst=1,
        short="sockets; the fullest namespace",
        means="sockets in TIME-WAIT, in the namespace that has least room",
        tells="Above net.ipv4.tcp_max_tw_buckets a connection is closed without TIME-WAIT: late segments of it may "
        "then reach the next one of the same ports.",
        source="sockstat: tw",
    ),
    Figure(
        name="time_wait_overflows",
        title="without TIME-WAIT",
        group="tables",
        counter="tw_overflow",
        worst=2,
        short="closed without TIME-WAIT",
        means="connections closed without TIME-WAIT: tcp_max_tw_buckets",
        tells="Keep connections open and use them again, or raise net.ipv4.tcp_max_tw_buckets.",
        source="netstat: TCPTimeWaitOverflow; tcp_time_wait()",
    ),
    Figure(
        name="tracked_connections",
        title="conntrack entries",
        group="tables",
        gauge="conntrack",
        limit="conntrack_max",
        worst=2,
        short="tracked; the fullest namespace",
        means="connections tracked, in the namespace that has least room",
        tells="Where the table is full, the first packets of new connections are dropped: SYNs of clients go "
        "unanswered. Raise net.netfilter.nf_conntrack_max, shorten nf_conntrack_tcp_timeout_established, or exempt "
        "traffic (notrack).",
        source="net.netfilter.nf_conntrack_count, nf_conntrack_max",
    ),
    Figure(
        name="tracking_drops",
        title="conntrack drops",
        group="tables",
        counter="conntrack_drops",
        worst=1,
        short="packets that conntrack dropped",
        means="packets dropped by connection tracking",
        tells="With a full table: packets of connections for which there was no entry left.",
        source="/proc/net/stat/nf_conntrack: drop; nf_conntrack_in()",
    ),
    Figure(
        name="local_ports",
        title="local ports",
        group="tables",
        worst=2,
        short="used to the fullest destination",
        means="local ports used to the destination that has most; null: far from all",
        tells="When all are used, connect() to that address and port fails with EADDRNOTAVAIL.",
        source="net.ipv4.ip_local_port_range; __inet_hash_connect()",
    ),
    Figure(
        name="open_files",
        title="open files",
        group="tables",
        gauge="files",
        limit="max_files",
        worst=2,
        short="open files of all kinds",
        means="open files of all kinds, against fs.file-max",
        tells="When all are used, accept(), socket() and open() fail with ENFILE for all but root.",
        source="fs.file-nr; alloc_empty_file()",
    ),
    Figure(
        name="accept_overflows",
        title="accept overflows",
        group="listeners",
        counter="listen_overflows",
        worst=2,
        short="handshakes: accept queue full",
        means="handshakes dropped: an accept queue was full",
        tells="A process accepts too slowly, or its backlog is small. The listener's row has the cause accept-queue.",
        source="netstat: ListenOverflows",
    ),
    Figure(
        name="syn_queue_drops",
        title="SYN queue drops",
        group="listeners",
        counter="req_q_full_drop",
        worst=2,
        short="SYNs: backlog full, no cookies",
        means="SYNs dropped: a SYN backlog was full, and cookies are off",
        tells="Clients retransmit their SYN after a second. The listener's row has the cause syn-queue.",
        source="netstat: TCPReqQFullDrop; tcp_conn_request()",
    ),
    Figure(
        name="cookies_sent",
        title="SYN cookies",
        group="listeners",
        counter="syncookies_sent",
        worst=1,
        short="SYNs answered by a cookie",
        means="SYNs answered by a cookie: a SYN backlog was full",
        tells="A SYN flood, or very many clients at once. Connections made by a cookie may lack options.",
        source="netstat: SyncookiesSent",
    ),
    Figure(
        name="listen_drops",
        title="dropped by listeners",
        group="listeners",
        counter="listen_drops",
        worst=1,
        short="SYNs and last ACKs, in all",
        means="SYNs and last ACKs of handshakes dropped for any reason",
        tells="Those of the two full queues are among them; others found no route or no memory.",
        source="netstat: ListenDrops",
    ),
    Figure(
        name="segs_sent",
        title="segments sent",
        group="packets",
        counter="out_segs",
        short="segments, retransmits left out",
        means="TCP segments, retransmits left out",
        tells="How busy the host is.",
        source="snmp: Tcp OutSegs",
    ),
    Figure(
        name="segs_retransmitted",
        title="retransmitted",
        group="packets",
        counter="retrans_segs",
        worst=2,
        short="segments",
        means="segments retransmitted, and their share of those sent",
        tells="Above half a percent of what is sent, long paths are slowed down. The table says which connections.",
        source="snmp: Tcp RetransSegs",
    ),
    Figure(
        name="retransmits_failed",
        title="retransmits failed",
        group="packets",
        counter="retrans_fail",
        worst=1,
        short="dropped by this host itself",
        means="retransmits that this host itself dropped",
        tells="An output rule, a full queue of the device, or no memory: nft list ruleset, tc -s qdisc.",
        source="netstat: TCPRetransFail; __tcp_retransmit_skb()",
    ),
    Figure(
        name="packets_discarded",
        title="output discarded",
        group="packets",
        counter="out_discards",
        worst=1,
        short="IPv4 packets, instead of sent",
        means="IPv4 packets that this host dropped instead of sending",
        tells="Of any protocol: no room in a queue of the device, or no memory.",
        source="snmp: Ip OutDiscards",
    ),
    Figure(
        name="backlog_drops",
        title="input queue drops",
        group="packets",
        counter="backlog_drops",
        worst=1,
        short="packets: a processor is busy",
        means="packets dropped: a processor's input queue was full",
        tells="Packets of loopback, veth and of devices without NAPI wait there, at most net.core.netdev_max_backlog: "
        "the processor is too busy.",
        source="softnet_stat: dropped; enqueue_to_backlog()",
    ),
    Figure(
        name="resets_sent",
        title="resets sent",
        group="packets",
        counter="out_rsts",
        short="for closed ports, or given up",
        means="resets sent: to closed ports, or of connections given up",
        tells="Many of them: scans, clients of a service that is not there, or processes that close with unread data.",
        source="snmp: Tcp OutRsts",
    ),
    Figure(
        name="segs_malformed",
        title="malformed segments",
        group="packets",
        counter="in_errs",
        worst=1,
        short="malformed, or a wrong checksum",
        means="segments received that were malformed, or had a wrong checksum",
        tells="A device, a driver or a tunnel that damages packets.",
        source="snmp: Tcp InErrs",
    ),
)
"""All figures, in the order in which they are shown."""


def find(name: str) -> Figure | None:
    """Return the figure of this name, None if there is none."""
    return next((figure for figure in FIGURES if figure.name == name), None)
