"""Findings in words."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.findings.bad_rows import RECENT_S, Table
from tcptop_ops.diagnosis.findings.ends import connections_of
from tcptop_ops.diagnosis.findings.expressions import address, written
from tcptop_ops.diagnosis.findings.families import PATH, Family, is_attempts
from tcptop_ops.diagnosis.findings.groups import Kind, network_of
from tcptop_ops.diagnosis.findings.search import Found
from tcptop_ops.diagnosis.listening import are_over
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.arrays import Mask, distinct
from tcptop_ops.model.listener_drops import listened_by
from tcptop_ops.model.records import Records

MOST_NAMES = 2
"""Most processes that are named."""

_WHY = {
    "refused": "refused",
    "rejected": "rejected by ICMP",
    "unreachable": "no way there",
    "syn-unanswered": "no answer",
    "accept-queue": "the listener's accept queue is full",
    "syn-queue": "the listener's SYN queue is full",
    "local-drop": "dropped by this host",
    "reset": "reset",
    "ports-used-up": "no local port is left",
}
"""Why connection attempts failed, by cause; others by their name."""


def told(found: Found, family: Family, rows: Table) -> str:
    """Return a finding in words; ``rows``: the bad ones of the group."""
    if is_attempts(family):
        return _attempts(found, rows)
    if family is PATH:
        return _path(found, rows)
    if family.of_process:
        return _not_closed(rows)
    return _plain(found, rows)


def main_cause(rows: Table) -> int:
    """Return the cause that most of these rows have, as an index into CAUSES."""
    return int(np.bincount(rows.cause, minlength=len(CAUSES)).argmax())


# Connection attempts


def _attempts(found: Found, rows: Table) -> str:
    """Return, for instance, ``curl -> 192.0.2.10:443 42 failed in 15 s: no answer``."""
    cause = CAUSES[main_cause(rows)].name
    lasted = within(_seconds_since_first(rows))
    return f"{_who(rows)} -> {_where(found, rows)} {found.bad} failed in {lasted}: {_WHY.get(cause, cause)}"


def _who(rows: Table) -> str:
    """Return the names of the processes of these rows; those of many are counted."""
    names = [name for name in distinct(rows.name).tolist() if name]
    if not names:
        return "?"
    if len(names) > MOST_NAMES:
        return f"{len(names)} processes"
    return ", ".join(text.printable(name) for name in names)


def _where(found: Found, rows: Table) -> str:
    if found.kind in (Kind.PROCESS_TO_PLACE, Kind.PLACE):
        return place(rows)
    if found.group.prefix is not None:
        return written(found.group.prefix)
    if found.kind is Kind.PROCESS_TO_NET:
        return f"{_places_in_net(rows)}:"
    number = _number_of_places(rows)
    inside = f" of {_namespace(rows)}" if found.kind is Kind.NAMESPACE else ""
    return f"{number} places{inside}:"


def _number_of_places(rows: Table) -> int:
    return len(np.unique(np.stack([*rows.remote, rows.rport]), axis=1).T)


def _places_in_net(rows: Table) -> str:
    """Return, for instance, ``2 ports of 10.0.0.5``, or ``3 places in 10.0.0.0/24``."""
    net = network_of(rows)
    number = _number_of_places(rows)
    return f"{number} ports of {written(net)}" if net.is_address else f"{number} places in {written(net)}"


def place(rows: Table) -> str:
    """Return the remote address and port of the first of these rows."""
    return text.endpoint(address(*rows.remote), int(rows.rport[0]))


def _seconds_since_first(rows: Table) -> float:
    """Return how long ago the first of these attempts began, at most RECENT_S."""
    now_ns = rows.flows.snapshot.now_ns
    first = rows.values(lambda part: part.events["first_ns"]).astype(np.float64)
    waited_s = rows.values(lambda part: part.rates["state_s"])
    ended = rows.values(
        lambda part: np.zeros(len(part), "u8") if part.endings is None else part.endings["end_ns"]
    ).astype(np.float64)
    unseen = np.where(ended > 0, ended, now_ns - waited_s * 1e9)
    return min((now_ns - float(np.where(first > 0, first, unseen).min())) / 1e9, RECENT_S)


def within(seconds: float) -> str:
    """Return a length of time: ``15 s``, ``2 min``, ``3 h``, ``4 days``; at least a second."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    for unit, size, most in (("min", 60, 100), ("h", 3600, 48)):
        if seconds < size * most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


# Connections that stand, or stood


def _group(found: Found, rows: Table) -> str:
    """Return what the rows of a group share."""
    kind = found.kind
    if kind is Kind.PROCESS_TO_PLACE:
        return f"of {_who(rows)} to {place(rows)}"
    if kind is Kind.PLACE:
        return f"to {place(rows)}"
    if kind is Kind.PROCESS_TO_NET:
        return f"of {_who(rows)} to {_places_in_net(rows)}"
    if kind is Kind.LISTENER:
        names = [name for name in distinct(rows.name).tolist() if name]
        whose = f"of {_who(rows)}, " if names else "on "
        return f"to the listener {whose}port {rows.lport[0]}"
    if kind in (Kind.PID, Kind.NAME):
        return f"of {process(rows)}"
    return f"to {written(found.group.prefix)}" if found.group.prefix is not None else f"in {_namespace(rows)}"


def process(rows: Table) -> str:
    """Return the name of the process of these rows, with its number if it is one process."""
    name = text.printable(bytes(rows.name[0])) or "process"
    pids = distinct(rows.pid)
    return f"{name} {pids[0]}" if len(pids) == 1 and pids[0] else name


def _namespace(rows: Table) -> str:
    inode = int(rows.netns[0])
    name = rows.flows.snapshot.namespace_names.get(inode, "")
    return f"namespace {text.printable(name)}" if name else f"network namespace {inode}"


def _path(found: Found, rows: Table) -> str:
    """Return what the flows of a group suffer from, and how the others do."""
    causes = np.bincount(rows.cause, minlength=len(CAUSES))
    first, second = np.argsort(-causes, kind="stable")[:2]
    cause = CAUSES[int(first)].name
    is_loss = cause in ("loss", "tail-loss")
    what = _predicate(int(first))
    if is_loss:
        what = _lose(_win(rows))
    if causes[second]:
        what = f"are bad: {causes[first]} {cause}, {causes[second]} {CAUSES[int(second)].name}"
    whose = _group(found, rows)
    if found.world is None or found.others is None:
        many = f"all {found.bad}" if found.bad == found.inside else f"{found.bad} of {found.inside}"
        return f"{many} flows {whose} {what}"
    others = found.world.table.take(found.others)
    bad = int((found.world.bad & found.others).sum())
    told = _share(_win(others)) if is_loss else f"{bad} of them"
    number = connections_of(rows.flows, others.row)
    return f"{found.bad} of {found.inside} flows {whose} {what}; other {number}: {told}"


def _predicate(cause: int) -> str:
    """Return what connections with this cause do, as the predicate of a sentence."""
    return CAUSES[cause].of_many or f"have {CAUSES[cause].name}"


def _win(rows: Table) -> Records:
    return rows.values(lambda part: part.rates["win"])


def _lose(win: Records) -> str:
    """Say what share these flows retransmit, from the first quartile to the third."""
    win = win[win["data_segs_out"] > 0]
    percents = 100.0 * win["retrans_segs"] / win["data_segs_out"] if len(win) else [100.0]
    ends = [text.percent(float(value)) for value in np.percentile(percents, (25, 75))]
    return f"lose {ends[0]} %" if ends[0] == ends[1] else f"lose {ends[0]}-{ends[1]} %"


def _share(win: Records) -> str:
    """Say what share of the data segments of all these flows together was retransmitted."""
    sent, again = (int(win[name].sum(dtype="u8")) for name in ("data_segs_out", "retrans_segs"))
    return f"{text.percent(100.0 * again / sent if sent else 0.0)} %"


def _plain(found: Found, rows: Table) -> str:
    """Return, for instance, ``20 of 20 connections of pool5 to 10.81.0.2:5300 were reset in 9 s``."""
    cause = main_cause(rows)
    is_reset = CAUSES[cause].name == "reset"
    what = f"were reset in {within(_between_ends(rows))}" if is_reset else _predicate(cause)
    inside = f"{found.bad} of {found.inside}" if found.world is not None else str(found.bad)
    return f"{inside} connections {_group(found, rows)} {what}"


def _between_ends(rows: Table) -> float:
    """Return the seconds from the first close of these rows to the last."""
    ends = rows.values(lambda part: np.zeros(len(part), "u8") if part.endings is None else part.endings["end_ns"])
    ends = ends[ends > 0]
    return float(ends.max() - ends.min()) / 1e9 if len(ends) else 0.0


def _not_closed(rows: Table) -> str:
    """Return, for instance, ``python3 4242 has not closed 200 sockets that their peers closed``."""
    oldest = float(rows.values(lambda part: part.rates["state_s"]).max())
    return (
        f"{process(rows)} has not closed {len(rows)} sockets that their peers closed, the oldest since {within(oldest)}"
    )


# Listeners

_QUEUES = {"accept-queue": "accept queue", "syn-queue": "SYN queue"}


def told_listener(listeners: Table, clients: Table) -> str:
    """Return, for instance, ``the accept queue of nginx, port 443, is full: 50 dropped in 20 s``.

    ``clients``: the connection attempts of this host that wait for it, or that waited in vain.
    """
    cause = CAUSES[main_cause(listeners)].name
    queue = _QUEUES.get(cause)
    name = _who(listeners) if (listeners.name != b"").any() else "a process"
    at = address(*listeners.local)
    where = f"port {listeners.lport[0]}" if at == "*" else text.endpoint(at, int(listeners.lport[0]))
    is_over = bool((_are_closed(listeners) | _are_over(listeners)).all())
    whole = (
        f"the {queue} of {name}, {where}, {'was' if is_over else 'is'} full"
        if queue
        else f"the listener of {name}, {where}: {cause}"
    )
    drops = int(_win(listeners)["drops"].sum(dtype="u8"))
    parts = []
    if drops and queue:
        seen_s, window_s = float(listeners.values(lambda part: part.rates["win_s"]).max()), listeners.flows.window_s
        # The window is sampled, so that it is a little shorter at times.
        parts.append(f"{drops} dropped in {within(window_s if seen_s > 0.8 * window_s else seen_s)}")
    gave_up = _are_closed(clients)
    waiting = clients.take(~gave_up)
    parts += [
        f"{len(some)} attempt{'s' * (len(some) > 1)} of {_who(some)} on this host {what}"
        for some, what in (
            (waiting, "wait for it" if len(waiting) > 1 else "waits for it"),
            (clients.take(gave_up), "gave up"),
        )
        if len(some)
    ]
    return f"{whole}: {', '.join(parts)}" if parts else whole


def _are_closed(rows: Table) -> Mask:
    found: Mask = rows.row >= len(rows.flows.live)
    return found


def _are_over(listeners: Table) -> Mask:
    flows = listeners.flows
    counted = listened_by(listeners.cookie, flows.listened)
    return are_over(listeners.values(lambda part: part.sockets), counted, flows.snapshot.now_ns / 1e9)
