"""The numbered kinds that records hold: states, timers, directions, origins and what happened to a connection."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """TCP states by the numbers of include/net/tcp_states.h; UNSEEN alone is this program's own."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12
    UNSEEN = 15  # only as ``from_state``: the socket is gone, and no event reported how it ended


BEFORE_ESTABLISHED = 1 << State.SYN_SENT | 1 << State.SYN_RECV | 1 << State.CLOSE
"""Bit mask (1 << State) of the states that an attempt which was never established may have been in."""

STATE_NAMES: dict[int, str] = {
    State.ESTABLISHED: "ESTAB",
    State.SYN_SENT: "SYN-SENT",
    State.SYN_RECV: "SYN-RECV",
    State.FIN_WAIT1: "FIN-WAIT-1",
    State.FIN_WAIT2: "FIN-WAIT-2",
    State.TIME_WAIT: "TIME-WAIT",
    State.CLOSE: "UNCONN",
    State.CLOSE_WAIT: "CLOSE-WAIT",
    State.LAST_ACK: "LAST-ACK",
    State.LISTEN: "LISTEN",
    State.CLOSING: "CLOSING",
}
"""State names as ss prints them (``sstate_name`` of iproute2's misc/ss.c)."""


class Timer(IntEnum):
    """The timer that ``timer_us`` counts down: idiag_timer of struct inet_diag_msg up to PERSIST.

    inet_diag reports ICSK_TIME_LOSS_PROBE and ICSK_TIME_REO_TIMEOUT as RETRANSMIT too (``inet_sk_diag_fill()``); the
    pass over descriptors tells them apart. idiag_timer 5, a delayed ACK since Linux 7.1, is DELACK here.
    """

    NONE = 0
    RETRANSMIT = 1
    KEEPALIVE = 2
    TIME_WAIT = 3
    PERSIST = 4  # zero window probes
    LOSS_PROBE = 5  # tail loss probe
    REORDER = 6  # RACK waits for segments that may only be reordered
    DELACK = 7  # delayed ACK


class Direction(IntEnum):
    """Which side opened the connection; LISTEN: a listener."""

    UNKNOWN = 0
    OUT = 1
    IN = 2
    LISTEN = 3


class Origin(IntEnum):
    """How much of a socket's life the sock_ops program has seen."""

    LISTED = 0  # nothing: it is only polled
    NEW = 1  # all, from its birth
    ADOPTED = 2  # all since the program started, when it was open already


class OwnerKind(IntEnum):
    """How the owner of a socket is known. The sock_ops program itself reports CALLER and CLOSER only."""

    UNKNOWN = 0
    HOLDER = 1  # has a descriptor of the socket
    CALLER = 2  # called connect() or listen()
    CLOSER = 3  # closed the accepted socket
    LISTENER = 4  # owns the listener that the connection came in through, and has not accepted it yet
    FORMER = 5  # closed it, or ended: the kernel alone still has it; nobody's, so that pid is 0


class RetransClass(IntEnum):
    """Why a segment was retransmitted, as ``retrans_class()`` of bpf/sockops.c concludes from the socket's state."""

    RTO = 0  # after a retransmission timeout
    RECOVERY = 1  # loss recovery: later segments were SACKed, or segments are marked lost
    PROBE = 2  # tail loss probe (RFC 8985 7): sent before anything is known to be lost
    OTHER = 3  # in a state that sends no data, such as a SYN


class ResetSeen(IntEnum):
    """The bits of ``resets`` of EVENTS: resets (RST) of this connection that the kernel's tracepoints told of."""

    RECEIVED = 1  # tcp_receive_reset(): from the peer, or from something between that speaks for it
    SENT = 2  # tcp_send_reset(), or a close that sends one: by this host


class ResetBy(IntEnum):
    """Who reset a connection, as far as that can be told from this host (``tracking.other_end``)."""

    NOBODY = 0  # it was not reset, or is live
    US = 1  # the own process, by its close
    HOST = 2  # this host, on somebody's order: SOCK_DESTROY
    UNKNOWN = 3  # the peer, or something between that speaks for it: a reset bears no other name
    PEER = 4  # the other end is on this host, too, and sent it
    DONE_PEER = 5  # alike, by a close with which nothing was lost: all was read and acknowledged
    BETWEEN = 6  # the other end is on this host, too, and did not send it


class Happening(IntEnum):
    """What happened to a connection; the comments say what ``a``, ``b``, ``detail`` and ``times`` of HAPPENING hold."""

    CONNECT = 1
    ESTABLISHED = 2
    STATE = 3  # a: from, b: to (State)
    RTO = 4  # a: its number among consecutive timeouts, from 1; b: the timeout that expired, us
    RETRANS = 5  # a: segments in total; detail: RetransClass; times: calls of RETRANS_CB
    RECOVERED = 6  # acknowledged again after timeouts; a: srtt, us
    SRTT = 7  # the smoothed RTT grew by half or fell by a third, and by 20 ms at least; a: before, b: after, us
    CLOSE = 8  # a: error (errno, UNKNOWN_U32 where not told); b: from (State)
    ADOPTED = 9  # it was open when the program started; a: bit mask (1 << State) of the states it has been in since


class FlagRequest(IntEnum):
    """What is done to the callback flags of an open socket."""

    ADOPT = 0  # sets those that it lacks, and begins a row of events for it
    GIVE_BACK = 1  # takes off those that this program set
    STRIP = 2  # takes off the per-packet ones, of a socket born before another program came


class Met(IntEnum):
    """What a row of a pass over all descriptors tells of."""

    SOCKET = 0  # a descriptor (MET)
    PROCESS = 1  # the process whose descriptors follow (MET_PROCESS)
    QUEUED = 2  # a connection that waits at a listener: MET, with its cookie, and that of the listener as inode


class HasRecord(IntEnum):
    """Whether a row of a pass has a record of SOCKET in the ring ``states``."""

    AT_REST = 0  # none: nothing has happened since the last pass
    WRITTEN = 1
    NO_ROOM = 2  # it should have, but the ring was full
    BEFORE = 3  # it was written for an earlier descriptor of the same socket


class WritingOperator(IntEnum):
    """The sock_ops operators (enum in include/uapi/linux/bpf.h) at which the program writes a row of EVENTS."""

    TCP_CONNECT_CB = 3
    ACTIVE_ESTABLISHED_CB = 4
    PASSIVE_ESTABLISHED_CB = 5
    RTO_CB = 8
    RETRANS_CB = 9
    STATE_CB = 10
    TCP_LISTEN_CB = 11
    RTT_CB = 12


class SeenRow(IntEnum):
    """The rows of ``Snapshot.seen``."""

    HOST = 0  # the whole host
    WATCHED = 1  # the connection whose details are shown


SHORT_STATES = {
    "ESTAB": "ESTAB",
    "SYN-SENT": "SYN-S",
    "SYN-RECV": "SYN-R",
    "FIN-WAIT-1": "FIN-1",
    "FIN-WAIT-2": "FIN-2",
    "TIME-WAIT": "TIM-W",
    "UNCONN": "CLOSD",
    "CLOSE-WAIT": "CLS-W",
    "LAST-ACK": "LST-A",
    "LISTEN": "LISTN",
    "CLOSING": "CLSNG",
}
"""State names of ss, and their form in a cell: at most five characters."""


class EcnMode(IntEnum):
    """What was agreed about explicit congestion notification."""

    UNKNOWN = 0
    NONE = 1
    CLASSIC = 2  # RFC 3168
    ACCURATE = 3  # AccECN, RFC 9768
    PENDING = 4  # the handshake asks for it
