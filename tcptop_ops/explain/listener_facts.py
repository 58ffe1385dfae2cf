"""What a listener's detail tells beside its columns: its accept queue and what limits it."""

from __future__ import annotations

from dataclasses import dataclass

from tcptop_ops.model.enums import Direction, Origin
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.listeners import among


@dataclass(frozen=True)
class AcceptQueue:
    """A listener's accept queue, and the connections that came in through it."""

    queue: int  # connections that wait for accept()
    limit: int  # of the queue
    full_s: float  # how long the queue has been over its limit; 0: it is not
    drops_win: int  # dropped handshakes within W
    drops: int  # so far; UNKNOWN_U32: not known
    win_s: float  # length of W for this row
    waiting: int  # connections that no process holds yet
    inside: int  # open connections that came in here
    opened_per_s: float  # handshakes completed within W; too low, since connections no longer listed are not counted
    syn_recv: int  # handshakes that are not complete

    @property
    def drops_per_s(self) -> float:
        """Dropped handshakes a second, within W."""
        return self.drops_win / self.win_s if self.win_s > 0 else 0.0


def accept_queue(rows: Rows, flows: Flows, waiting_owner: int) -> AcceptQueue:
    """Describe a listener. ``waiting_owner``: the OwnerKind of connections that wait for accept()."""
    socket, rates = rows.sockets[0], rows.rates[0]
    listeners = among(flows.live.sockets)
    here = listeners.groups_of(rows.sockets)[0]
    inside = waiting = opened = 0
    since_ns = flows.snapshot.now_ns - int(flows.window_s * 1e9)
    for part in (flows.live, flows.closed):
        mine = (listeners.of(part.sockets) == here) & (here >= 0) & (part.events["direction"] == Direction.IN)
        opened += int((mine & (part.events["origin"] == Origin.NEW) & (part.events["first_ns"] >= since_ns)).sum())
        if part.endings is None:
            inside, waiting = int(mine.sum()), int((mine & (part.owners["how"] == waiting_owner)).sum())
    win_s = float(rates["win_s"])
    over = int(socket["recv_q"]) > int(socket["send_q"])
    return AcceptQueue(
        queue=int(socket["recv_q"]),
        limit=int(socket["send_q"]),
        full_s=float(rates["state_s"]) if over else 0.0,
        drops_win=int(rates["win"]["drops"]),
        drops=int(socket["drops"]),
        win_s=win_s,
        waiting=waiting,
        inside=inside,
        opened_per_s=opened / win_s if win_s > 0 else 0.0,
        syn_recv=int(((listeners.of(flows.snapshot.half_open) == here) & (here >= 0)).sum()),
    )


def binds(limit: int, somaxconn: int | None) -> str:
    """Say whether listen() or somaxconn sets a queue's limit. ``somaxconn``: that of its namespace, None: not known."""
    if somaxconn is None:
        return f"limit {limit} = min(listen(), somaxconn); somaxconn of its namespace is not known here"
    if limit < somaxconn:
        return f"limit = min(listen() {limit}, somaxconn {somaxconn}): the process asked for so few"
    if limit == somaxconn:
        return f"limit = somaxconn {somaxconn}: raise net.core.somaxconn before the backlog of listen()"
    return f"limit {limit}, from when somaxconn was more than {somaxconn}"
