"""Findings of the host itself: memory, tables and queues that all connections share, near their limit or full. Pure.

Each begins with what was seen within W or is there now, never with what was counted since the host was started. Where
rows tell the same, and of which process, the host says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.diagnosis import host_causes
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.diagnosis.findings.bad_rows import BAD_SCORE
from tcptop_ops.diagnosis.host_readings import NEAR
from tcptop_ops.diagnosis.listening import ACCEPT_QUEUE, SYN_QUEUE
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.diagnosis.sending import LOCAL_DROP
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Finding, Flows, Rows
from tcptop_ops.model.listener_drops import listened_by
from tcptop_ops.model.records import Records

ORPHAN_SHIFT = 2
"""For a peer that does not answer, each orphan counts 1 << ORPHAN_SHIFT (tcp_out_of_resources())."""

BACKLOG_DROPS, BACKLOG_SHARE = 20, 0.001
"""How many packets dropped within W at the input queues of processors, and which share of all, are too many."""

RETRANSMITS_FAILED = 5
"""How many retransmits of a namespace must have been dropped within W: most of them, as for a row's local-drop."""

QUEUE_DROPS = 10
"""How many handshakes dropped within W at full queues, that no listener explains, are told of."""

ORPHANED = (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING, State.LAST_ACK)
_HOLDS_MEMORY = "(recv_q > 0 or send_q > 0) and not state = LISTEN"
_ORPHANED = "not inode > 0 and (state = FIN-WAIT-1 or state = FIN-WAIT-2 or state = CLOSING or state = LAST-ACK)"


@dataclass(frozen=True)
class _Fault:
    """A finding that does not know yet since when it is told."""

    cause: Cause
    text: str
    filter: str
    shows: Callable[[Rows], NDArray[Any]]  # which rows the filter shows
    where: str = ""  # what tells it from others of its cause, the same from tick to tick


def of_host(flows: Flows, wanted: Mask | None, told_since: Mapping[str, float]) -> tuple[Finding, ...]:
    """Return what is wrong with the host itself, the gravest first.

    ``wanted``: the rows that a filter lets through, of which a finding's namespace, if it has one, must have some;
    ``told_since``: since when a finding is told, by its key.
    """
    if not len(flows.host.now) and not len(flows.host.namespaces):
        return ()
    seen = None if wanted is None else _namespaces(flows)[wanted]
    found = [*_of_memory(flows), *_of_files(flows), *_of_input(flows)] if seen is None or len(seen) else []
    for row in flows.host.namespaces[_may_be_bad(flows.host.namespaces["net"])]:
        if seen is None or (seen == row["netns"]).any():
            found += _of_namespace(flows, row)
    return tuple(_finding(flows, one, told_since) for one in found)


def _namespaces(flows: Flows) -> Any:
    return flows.column(lambda part, _: part.sockets["netns"])


def _finding(flows: Flows, fault: _Fault, told_since: Mapping[str, float]) -> Finding:
    key = f"{fault.cause.name} {fault.where or 'host'}"
    since = told_since.get(key, flows.snapshot.time)
    rows = int(np.count_nonzero(flows.column(lambda part, _: fault.shows(part))))
    return Finding(fault.text, fault.filter, rows, "host", since, key=key)


def _within(flows: Flows) -> str:
    return f"in {text.duration(max(flows.host.seconds, 1.0))}"


def _name(flows: Flows, netns: int) -> str:
    return text.printable(flows.snapshot.namespace_names.get(netns, "")) or str(netns)


def _host(flows: Flows, name: str) -> int:
    """Return a field of HOST, 0 where it is not known."""
    return int(flows.host.now[name][0]) if len(flows.host.now) else 0


def _all(flows: Flows, counter: str) -> int:
    """Return the growth of a counter within W over all namespaces."""
    net = flows.host.namespaces["net"]
    return int(net[counter].sum()) if len(net) else 0


# Of the whole host


def _of_memory(flows: Flows) -> Iterator[_Fault]:
    """Yield memory pressure, or too many orphans; both reset connections, which the kernel counts together."""
    resets, pressures = _all(flows, "abort_on_memory"), _all(flows, "memory_pressures")
    pages, limit = _host(flows, "tcp_mem_pages"), _host(flows, "tcp_mem_pressure")
    orphans, most = _host(flows, "orphans"), _host(flows, "max_orphans")
    of_orphans = bool(most) and (orphans >= NEAR * most or (resets > 0 and orphans << ORPHAN_SHIFT > most))
    pressed = (limit > 0 and pages >= NEAR * limit) or pressures > 0
    told = f"; {text.count(resets)} connections reset for it {_within(flows)}" if resets else ""
    if pressed or (resets and not of_orphans):
        yield _memory(flows, pages, limit, pressures, "" if of_orphans else told)
    if of_orphans:
        words = f"{text.count(orphans)} orphans of {text.count(most)} (net.ipv4.tcp_max_orphans){told}"
        yield _Fault(host_causes.TOO_MANY_ORPHANS, words, _ORPHANED, _are_orphans)


def _are_orphans(rows: Rows) -> Mask:
    found: Mask = (rows.sockets["inode"] == 0) & np.isin(rows.sockets["state"], ORPHANED)
    return found


def _memory(flows: Flows, pages: int, limit: int, pressures: int, told: str) -> _Fault:
    words = f"TCP sockets hold {text.count(pages)} pages of memory"
    if limit:
        is_over = "over" if pages > limit else f"{100 * pages / limit:.0f} % of"
        low, high = _host(flows, "tcp_mem_low"), _host(flows, "tcp_mem_high")
        words += f", {is_over} where pressure begins (net.ipv4.tcp_mem {low} {limit} {high})"
    if pressures:
        words += f"; pressure began {_times(pressures)} {_within(flows)}"
    if pruned := _all(flows, "prune_called"):
        words += f"; receive queues pruned {_times(pruned)}"
    return _Fault(host_causes.TCP_MEMORY, words + told, _HOLDS_MEMORY, _hold_memory)


def _hold_memory(rows: Rows) -> Mask:
    sockets = rows.sockets
    found: Mask = ((sockets["recv_q"] > 0) | (sockets["send_q"] > 0)) & (sockets["state"] != State.LISTEN)
    return found


def _times(count: int) -> str:
    return "once" if count == 1 else f"{text.count(count)} times"


def _of_files(flows: Flows) -> Iterator[_Fault]:
    files, most = _host(flows, "files"), _host(flows, "max_files")
    if most and files >= NEAR * most:
        words = (
            f"{text.count(files)} files are open of {text.count(most)} (fs.file-max): accept() and socket() may fail"
        )
        yield _Fault(host_causes.FILES_USED_UP, words, "inode > 0", lambda rows: rows.sockets["inode"] > 0)


def _of_input(flows: Flows) -> Iterator[_Fault]:
    drops, packets = flows.host.grown.get("backlog_drops", 0), flows.host.grown.get("backlog_packets", 0)
    share = drops / max(drops + packets, 1)
    if drops >= BACKLOG_DROPS and share >= BACKLOG_SHARE:
        words = (
            f"{text.count(drops)} packets dropped at the input queues of the processors {_within(flows)}, "
            f"{text.percent(100 * share)} % of all (net.core.netdev_max_backlog)"
        )
        yield _Fault(host_causes.BACKLOG_DROP, words, "retr > 0", lambda rows: rows.rates["win"]["retrans_segs"] > 0)


# Of one network namespace


def _may_be_bad(net: Records) -> Mask:
    """Return the namespaces for which a finding is possible: most have none. ``net``: NET rows."""
    full = (net["conntrack_max"] > 0) & (net["conntrack"] >= NEAR * net["conntrack_max"])
    dropped = net["listen_overflows"] + net["req_q_full_drop"] >= QUEUE_DROPS
    found: Mask = full | dropped | (net["tw_overflow"] > 0) | (net["retrans_fail"] >= RETRANSMITS_FAILED)
    return found


def _of_namespace(flows: Flows, row: Any) -> Iterator[_Fault]:
    """Yield the faults of a namespace. ``row``: of NET_OF."""
    netns, net = int(row["netns"]), row["net"]
    for cause, words in (
        (host_causes.CONNTRACK_FULL, _tracking(flows, net)),
        (host_causes.TIME_WAIT_FULL, _time_wait(flows, net)),
        (LOCAL_DROP, _output(flows, net, netns)),
        (ACCEPT_QUEUE, _queues(flows, net, netns)),
    ):
        if words:
            told = f"{words} in namespace {_name(flows, netns)}"
            yield _Fault(cause, told, f"netns = {netns}", lambda rows: rows.sockets["netns"] == netns, str(netns))


def _tracking(flows: Flows, net: Any) -> str:
    tracked, most, drops = (int(net[name]) for name in ("conntrack", "conntrack_max", "conntrack_drops"))
    if not most or tracked < NEAR * most:
        return ""
    told = (
        f"{text.count(drops)} packets dropped {_within(flows)}" if drops else "when it is full, new ones may be dropped"
    )
    return f"{tracked} of {most} connections tracked (net.netfilter.nf_conntrack_max): {told}"


def _time_wait(flows: Flows, net: Any) -> str:
    most, cut = int(net["max_tw_buckets"]), int(net["tw_overflow"])
    if not cut or not most:
        return ""
    closed = "connections" if cut > 1 else "connection"
    return (
        f"{text.count(cut)} {closed} closed without TIME-WAIT {_within(flows)}: "
        f"{int(net['tw'])} of {most} are in it (net.ipv4.tcp_max_tw_buckets)"
    )


def _output(flows: Flows, net: Any, netns: int) -> str:
    """Most retransmits fail, and no row says so: where only polls tell of rows, none can."""
    failed, again = int(net["retrans_fail"]), int(net["retrans_segs"])
    if _settled(flows, net, netns, "retrans_fail") < RETRANSMITS_FAILED or 2 * failed <= again:
        return ""
    if _is_told(flows, netns, (LOCAL_DROP,)):
        return ""
    of_all = text.count(max(again, failed))
    words = f"{text.count(failed)} of {of_all} retransmits dropped by this host {_within(flows)}"
    return words + (f", and {text.count(discards)} other packets" if (discards := int(net["out_discards"])) else "")


def _settled(flows: Flows, net: Any, netns: int, counter: str) -> int:
    """Return the growth of a counter that was there two seconds ago: what is newer, rows may tell of yet."""
    then = flows.host.settled
    before = then[then["netns"] == netns]["net"][counter]
    return min(int(net[counter]), int(before[0])) if len(before) else 0


def _queues(flows: Flows, net: Any, netns: int) -> str:
    """More was dropped at full queues than listeners explain, and none of them is told of.

    A listener's own drops may show a tick later than those of its namespace.
    """
    dropped = sum(_settled(flows, net, netns, name) for name in ("listen_overflows", "req_q_full_drop"))
    if dropped < QUEUE_DROPS or _is_told(flows, netns, (ACCEPT_QUEUE, SYN_QUEUE)):
        return ""
    sockets = flows.live.sockets
    listens = (sockets["state"] == State.LISTEN) & (sockets["netns"] == netns)
    of_them: Records = listened_by(sockets["cookie"][listens], flows.listened)
    rest = dropped - int(of_them["overflows"].sum()) - int(of_them["syn_drops"].sum())
    if rest < QUEUE_DROPS or 2 * rest <= dropped:
        return ""
    count = int(np.count_nonzero(listens))
    which = f"which of {count} listeners is not known" if count > 1 else "no listener that is seen explains it"
    return f"{text.count(rest)} handshakes dropped at full queues {_within(flows)} ({which})"


def _is_told(flows: Flows, netns: int, causes: tuple[Cause, ...]) -> bool:
    """Return whether a row of this namespace has one of these causes, and is bad for it."""
    numbers = [CAUSES.index(cause) for cause in causes]
    return any(_has(part, netns, numbers) for part in (flows.live, flows.closed))


def _has(part: Rows, netns: int, causes: list[int]) -> bool:
    bad = np.flatnonzero(part.rates["score"] >= BAD_SCORE)
    named = bad[np.isin(part.rates["cause"][bad], causes)]
    return bool((part.sockets["netns"][named] == netns).any())
