"""Columns that tell which socket it is: numbers, addresses, state, process."""

from __future__ import annotations

from tcptop_ops.views import column_readers as read
from tcptop_ops.views.column import GREATEST, Column
from tcptop_ops.views.column_builders import (
    identity,
    identity_by,
    number,
    same_address,
    word,
)
from tcptop_ops.views.column_text import (
    plain_address,
    plain_endpoint,
    show_address,
    show_endpoint,
    show_exact,
    show_name,
    show_state,
)
from tcptop_ops.views.known_values import unless
from tcptop_ops.views.partner_readers import partner, partner_cookie

WHO: tuple[Column, ...] = (
    identity("cookie", "COOKIE", 8, "the kernel's number for this socket, never used twice", "sockets", "cookie"),
    identity(
        "netns",
        "NETNS",
        10,
        "inode number of the network namespace",
        "sockets",
        "netns",
        names=lambda flows: flows.snapshot.namespace_names,
    ),
    identity("inode", "INODE", 8, "inode number of the socket's descriptor", "sockets", "inode"),
    number("family", "IP", 2, "4 or 6: what the packets are; an IPv4-mapped address is 4", read.family),
    word(
        "laddr",
        "LADDR",
        15,
        "local address",
        read.endpoint("l"),
        show=show_address,
        plain=plain_address,
        group=same_address("l"),
    ),
    number("lport", "LPORT", 5, "local port", read.socket("lport", 0), most=65535),
    word(
        "raddr",
        "RADDR",
        15,
        "remote address",
        read.endpoint("r"),
        show=show_address,
        plain=plain_address,
        group=same_address("r"),
    ),
    number("rport", "RPORT", 5, "remote port", read.socket("rport", 0), most=65535),
    word("local", "LOCAL", 21, "local address and port", read.endpoint("l"), show=show_endpoint, plain=plain_endpoint),
    word(
        "peer",
        "PEER (LISTN: local)",
        22,
        "remote address and port",
        read.peer,
        show=show_endpoint,
        plain=plain_endpoint,
    ),
    word("state", "STATE", 5, "TCP state, as ss names it", read.state, show=show_state),
    word("direction", "DIR", 6, "who opened it: out, in, listen", read.direction),
    word(
        "origin",
        "ORIGIN",
        7,
        "new: its whole life was seen; adopted: open before the start; listed: polled only",
        read.origin,
    ),
    number(
        "pid",
        "PID",
        7,
        "process that holds the socket",
        lambda r, _: unless(r.owners["pid"], 0),
        show=show_exact,
    ),
    word("process", "PROCESS", 9, "name of that process; was NAME: nobody holds it now", read.process, show=show_name),
    word(
        "command",
        "COMMAND",
        16,
        "what it runs: the command line, cut to what tells programs apart",
        read.command,
        alias="cmd",
        show=show_name,
    ),
    word(
        "owner",
        "OWNER",
        8,
        "how the process is known: holder, caller, closer, listener (not accepted yet), former",
        read.owner,
    ),
    number(
        "holders",
        "HOLD",
        4,
        "processes that hold the socket",
        lambda r, _: unless(r.owners["holders"], 0),
        group=GREATEST,
    ),
    word("partner", "PARTNER", 16, "process of the other end, where that is on this host too", partner, show=show_name),
    identity_by(
        "partner_cookie", "PARTNER'S", 8, "cookie of the other end, where that is on this host too", partner_cookie
    ),
    word("user", "USER", 8, "user that made the socket", read.user, show=show_name),
    word("service", "SERVICE", 16, "service, container or pod, from the control group", read.service, show=show_name),
    word("cgroup", "CGROUP", 24, "control group of the socket", read.cgroup, show=show_name),
    number("uid", "UID", 10, "user that made the socket", read.socket("uid"), show=show_exact),
)
