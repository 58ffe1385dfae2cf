"""All local ports towards a destination are used: a fault of the host, which has no rows. Pure.

connect() then fails with EADDRNOTAVAIL before anything is sent or called (__inet_hash_connect()).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tcptop_ops import text
from tcptop_ops.diagnosis.cause import Cause
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.flows import Finding, Flows

NEARLY_ALL = 0.95
"""Share of the range of local ports from which on a destination is told of."""

PORTS_USED_UP = Cause(
    name="ports-used-up",
    blame="host",
    means="all local ports towards a destination are used, so that connect() fails with EADDRNOTAVAIL",
    told_by="a finding: connections to one address and port, open or in TIME-WAIT, that have taken 95 % of "
    "net.ipv4.ip_local_port_range from one source address; those in TIME-WAIT that tcp_tw_reuse allows are left out",
    remedy="keep connections open and use them again; widen net.ipv4.ip_local_port_range, allow net.ipv4.tcp_tw_reuse, "
    "or use more source or destination addresses",
    source="__inet_hash_connect() of net/ipv4/inet_hashtables.c, tcp_twsk_unique() of net/ipv4/tcp_ipv4.c",
)
"""It is of a network namespace: no row has it."""


def used_up(flows: Flows, wanted: Mask | None, told_since: Mapping[str, float]) -> tuple[Finding, ...]:
    """Return a finding for each destination towards which NEARLY_ALL local ports are used, the fullest first.

    ``wanted``: the rows that a filter lets through, of which the namespace must have some; ``told_since``: since when a
    finding is told, by its key.
    """
    rows = flows.snapshot.used_ports
    if wanted is not None and len(rows):
        rows = rows[np.isin(rows["netns"], flows.column(lambda part, _: part.sockets["netns"])[wanted])]
    if not len(rows):
        return ()
    size = rows["port_high"].astype("i8") - rows["port_low"] + 1
    taken = rows["time_wait"].astype("i8") + rows["open"]
    order = (taken / size).argsort(kind="stable")[::-1]
    full = order[(taken >= NEARLY_ALL * size)[order]].tolist()
    return tuple(_finding(flows, rows[at], int(taken[at]), int(size[at]), told_since) for at in full)


def _finding(flows: Flows, row: Any, taken: int, size: int, told_since: Mapping[str, float]) -> Finding:
    address, port, netns = text.address(bytes(row["raddr"])), int(row["rport"]), int(row["netns"])
    key = f"{PORTS_USED_UP.name} {netns} {text.address(bytes(row['laddr']))} {address} {port}"
    how_many = f"all {size}" if taken >= size else f"{taken} of {size}"
    name = text.printable(flows.snapshot.namespace_names.get(netns, "")) or str(netns)
    return Finding(
        f"{how_many} local ports to {text.endpoint(address, port)} are used: {row['time_wait']} in TIME-WAIT, "
        f"{row['open']} open; net.ipv4.ip_local_port_range {row['port_low']} {row['port_high']} in namespace {name}",
        f"host = {address} and rport = {port} and netns = {netns}",
        int(row["open"]),
        blame="host",
        since=told_since.get(key, flows.snapshot.time),
        key=key,
    )
