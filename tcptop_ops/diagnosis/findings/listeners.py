"""Listeners in trouble, each with the connection attempts of this host that wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import Table, hashed
from tcptop_ops.diagnosis.findings.expressions import Expression, address, any_of, in_namespace, of_place
from tcptop_ops.diagnosis.findings.families import LISTENER_SCORE
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.addresses import are_unspecified
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.flows import Flows

MOST_ADDRESSES = 8
"""Most addresses of a listener at which clients of this host are looked for."""

_UNANSWERED = [number for number, cause in enumerate(CAUSES) if cause.name == "syn-unanswered"]


@dataclass(frozen=True)
class Stuck:
    """A listener in trouble; the masks are over the bad rows."""

    listeners: Mask  # several, where SO_REUSEPORT has them share an address
    clients: Mask  # the connection attempts of this host that wait for it
    expression: Expression  # shows both
    key: str
    heard_at: frozenset[bytes]  # the addresses, 16 bytes each, at which clients reach it


def stuck_listeners(flows: Flows, bad: Table, may: Mask) -> Iterator[Stuck]:
    """Yield the listeners among the bad rows, an address and port at a time.

    ``may``: the bad rows that are to be told. A client takes part in one finding only.
    """
    listens = may & bad.listens & (bad.score >= LISTENER_SCORE)
    if not listens.any():
        return
    high, low = bad.local
    any_address = are_unspecified(high, low)
    keys = hashed(bad.netns, np.where(any_address, 0, high), np.where(any_address, 0, low), bad.lport)
    waiting = may & np.isin(bad.cause, _UNANSWERED) & bad.waits
    for key in np.unique(keys[listens]).tolist():
        same = bad.listens & (keys == np.uint64(key))
        listeners = same & listens
        one = bad.take(listeners)
        here = Expression(f"state = LISTEN and lport = {one.lport[0]} and laddr = {address(*one.local)}", same)
        name = f"listener {key:x}"
        heard_at = frozenset() if flows.bad is None else flows.bad.heard_at.get(name, frozenset())
        dialled = _at_addresses(flows, one, bad, waiting, heard_at)
        found = [in_namespace(one, bad, here), *dialled.values()]
        expression = Expression(any_of([part.text for part in found]), np.logical_or.reduce([p.shows for p in found]))
        clients = expression.shows & waiting
        waiting = waiting & ~clients
        yield Stuck(listeners, clients, expression, name, heard_at | frozenset(dialled))


def _at_addresses(
    flows: Flows, listener: Table, bad: Table, waiting: Mask, heard_at: frozenset[bytes]
) -> dict[bytes, Expression]:
    """Return how waiting clients reach this listener, by the address that they dial.

    ``heard_at``: addresses that were found before, when connections to them were still listed.
    """
    clients = bad.take(waiting & (bad.rport == listener.lport[0]))
    unanswered = Expression(f"cause = {CAUSES[_UNANSWERED[0]].name}", np.isin(bad.cause, _UNANSWERED))
    found: dict[bytes, Expression] = {}
    _, first = np.unique(hashed(*clients.remote), return_index=True)
    for at in first[:MOST_ADDRESSES].tolist():
        one = clients.take(np.array([at]))
        expression, dialled = of_place(one, bad), one.values(lambda rows: rows.sockets["raddr"])[0].tobytes()
        if _is_loopback(one):  # each namespace has its own
            expression = in_namespace(listener, bad, expression)
        elif dialled not in heard_at and not _has_address(flows, listener, one):
            continue
        if (expression.shows & waiting).any():
            found[dialled] = expression & unanswered
    return found


def _is_loopback(client: Table) -> bool:
    high, low = (int(half[0]) for half in client.remote)
    return (bool(client.is_v4[0]) and low >> 24 & 0xFF == 127) or (high, low) == (0, 1)


def _has_address(flows: Flows, listener: Table, client: Table) -> bool:
    """Return whether a listener hears at the address that is dialled: its own, or any one of its namespace."""
    if not are_unspecified(*listener.local)[0]:
        return bool(listener.local[0][0] == client.remote[0][0] and listener.local[1][0] == client.remote[1][0])
    dialled = client.values(lambda rows: rows.sockets["raddr"])[0]
    for sockets in (flows.live.sockets, flows.closed.sockets, flows.snapshot.half_open):
        at_port = np.flatnonzero(sockets["lport"] == listener.lport[0])
        at_port = at_port[sockets["netns"][at_port] == listener.netns[0]]
        if (sockets["laddr"][at_port] == dialled).all(axis=1).any():
            return True
    return False
