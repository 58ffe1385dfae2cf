"""Listeners in trouble, each with the connection attempts of this host that wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import Table, hashed
from tcptop_ops.diagnosis.findings.expressions import Expression, address, any_of, in_namespace
from tcptop_ops.diagnosis.findings.families import LISTENER_SCORE
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.addresses import are_unspecified
from tcptop_ops.model.arrays import Mask


@dataclass(frozen=True)
class Stuck:
    """A listener in trouble; the masks are over the bad rows."""

    listeners: Mask  # several, where SO_REUSEPORT has them share an address
    clients: Mask  # the connection attempts of this host that wait for it, or that waited to their end
    expression: Expression  # shows both
    key: str


def stuck_listeners(bad: Table, may: Mask) -> Iterator[Stuck]:
    """Yield the listeners among the bad rows, an address and port at a time. ``may``: the bad rows to be told."""
    listens = may & bad.listens & (bad.score >= LISTENER_SCORE)
    if not listens.any():
        return
    high, low = bad.local
    any_address = are_unspecified(high, low)
    keys = hashed(bad.netns, np.where(any_address, 0, high), np.where(any_address, 0, low), bad.lport)
    for key in np.unique(keys[listens]).tolist():
        same = bad.listens & (keys == np.uint64(key))
        listeners = same & listens
        one = bad.take(listeners)
        here = Expression(f"state = LISTEN and lport = {one.lport[0]} and laddr = {address(*one.local)}", same)
        here = in_namespace(one, bad, here)
        clients = may & ~bad.listens & np.isin(bad.listener, bad.cookie[same])
        yield Stuck(listeners, clients, _with_clients(here, bad, clients), f"listener {key:x}")


def _with_clients(here: Expression, bad: Table, clients: Mask) -> Expression:
    """Return the expression for a listener and for what dials its port and has the cause of those that wait for it."""
    if not clients.any():
        return here
    port, causes = bad.rport[clients][0], np.unique(bad.cause[clients]).tolist()
    named = any_of([f"cause = {CAUSES[number].name}" for number in causes])
    waiting = (bad.rport == port) & np.isin(bad.cause, causes)
    return Expression(any_of([here.text, f"rport = {port} and {named}"]), here.shows | waiting)
