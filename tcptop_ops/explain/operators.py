"""Describe the sock_ops operators (enum in include/uapi/linux/bpf.h; called by tcp_call_bpf() of include/net/tcp.h).

For each: when the kernel calls it, with which arguments and from which functions (names as of Linux 6.18), and
what a user learns from it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tcptop_ops import text
from tcptop_ops.model.enums import STATE_NAMES


@dataclass(frozen=True)
class Operator:
    """One operator.

    ``flag``: the callback flag that enables it, "" if it is always called. ``decode``: converts the three arguments of
    a call to text, "" if they say nothing. ``unseen``: why it may never be called.
    """

    number: int
    name: str
    flag: str = ""
    short: str = ""
    when: str = ""
    arguments: str = "none"
    path: str = ""
    tells: str = ""
    unseen: str = ""
    decode: Callable[[Sequence[int]], str] = lambda _: ""
    retires: bool = False  # called per packet: --callbacks all clears its flag after a connection's first samples


def _us(value: int) -> str:
    return text.duration(value / 1e6)


def _state(number: int) -> str:
    return STATE_NAMES.get(number, str(number))


def _rto(args: Sequence[int]) -> str:
    gave_up = ", gave up" if args[2] else ""
    return f"timeout {args[0] + 1} in a row, after {args[1]} jiffies{gave_up}"


def _retrans(args: Sequence[int]) -> str:
    failed = f", not sent: error {args[2]}" if args[2] else ""
    return f"{args[1]} segment{'' if args[1] == 1 else 's'}{failed}"


def _transition(args: Sequence[int]) -> str:
    return f"{_state(args[0])} -> {_state(args[1])}"


def _rtt(args: Sequence[int]) -> str:
    smoothed = f", srtt {_us(args[1] >> 3)}" if args[1] else ""
    return f"sample {_us(args[0])}{smoothed}" if args[0] else ""


REQUESTS = "A call may come for a request socket: a SYN that was answered, before there is a connection."

OPERATORS: tuple[Operator, ...] = (
    Operator(
        1,
        "TIMEOUT_INIT",
        short="the first timeout of a SYN is wanted",
        when=f"The kernel asks how long to wait for the answer to a SYN or to a SYN-ACK. {REQUESTS}",
        path="tcp_timeout_init(), from tcp_connect_init() and tcp_conn_request()",
        tells="How many SYNs were admitted on a port: its request sockets are counted apart. The timeout in force is"
        " the kernel's own, 1 s, unless another program answers.",
    ),
    Operator(
        2,
        "RWND_INIT",
        short="the first receive window is wanted",
        when=f"The kernel asks for the first receive window, in packets. {REQUESTS}",
        path="tcp_rwnd_init_bpf(), from tcp_connect_init() and tcp_openreq_init_rwin()",
        tells="Once for each side of a connection to be. Where nobody answers, the route's initrwnd counts.",
    ),
    Operator(
        3,
        "TCP_CONNECT_CB",
        short="a process calls connect()",
        when="Just before the SYN of an own connection is made, in the context of the process that connects.",
        path="tcp_connect(), from tcp_v4_connect() or tcp_v6_connect()",
        tells="Who dials, and how often. The callback flags are set here, so that a connection which never stands is"
        " seen too.",
    ),
    Operator(
        4,
        "ACTIVE_ESTABLISHED_CB",
        short="an own connection stands",
        when="The SYN-ACK has come: a connection that was opened here is established.",
        path="tcp_finish_connect(), through tcp_init_transfer()",
        tells="The time to connect: from TCP_CONNECT_CB to here, a round trip and any SYN that was sent again.",
    ),
    Operator(
        5,
        "PASSIVE_ESTABLISHED_CB",
        short="a connection that came in stands",
        when="The last ACK of the handshake has come, or data in a SYN (fast open), on the side that listens.",
        path="tcp_rcv_state_process() in SYN-RECV, or tcp_fastopen_create_child(); through tcp_init_transfer()",
        tells="Handshakes completed: compare with the SYNs admitted (TIMEOUT_INIT, request sockets). The process that"
        " will accept it is not known yet.",
    ),
    Operator(
        6,
        "NEEDS_ECN",
        short="is ECN wanted?",
        when=f"The kernel asks whether to negotiate ECN although net.ipv4.tcp_ecn does not. {REQUESTS}",
        path="tcp_bpf_ca_needs_ecn(), from tcp_ecn_send_syn(), tcp_ecn_send_synack() and tcp_ecn_create_request()",
        tells="That it was asked. Whether ECN was granted is an option of the connection, and delivered_ce counts what"
        " routers marked.",
    ),
    Operator(
        7,
        "BASE_RTT",
        short="only TCP-NV asks for it",
        when="The congestion control NV asks for the round trip of an empty path.",
        path="tcpnv_init(), net/ipv4/tcp_nv.c",
        tells="That a connection uses NV. cubic, bbr and the others never ask.",
        unseen="Zero is right on a host where no socket uses the congestion control nv.",
    ),
    Operator(
        8,
        "RTO_CB",
        "RTO",
        short="a retransmission timeout",
        when="The retransmission timer has fired, before anything is sent again: of data, or of a SYN.",
        arguments="timeouts before this one for the same segment; the timeout in jiffies; 1 if the kernel gives up",
        path="tcp_write_timeout(), from tcp_retransmit_timer()",
        tells="Milliseconds in which nothing moved: the sum is the stall. Each timeout doubles the next.",
        decode=_rto,
    ),
    Operator(
        9,
        "RETRANS_CB",
        "RETRANS",
        short="segments are sent again",
        when="Each time that segments are sent again: after an RTO, in recovery, as a tail-loss probe; SYNs too,"
        " SYN-ACKs not.",
        arguments="the sequence number; how many segments; an error, 0 if they were sent",
        path="__tcp_retransmit_skb()",
        tells="Calls without an error equal the events of tcp:tcp_retransmit_skb, their segments RetransSegs of"
        " /proc/net/snmp. The class says why: timeout, recovery, probe.",
        decode=_retrans,
    ),
    Operator(
        10,
        "STATE_CB",
        "STATE",
        short="a socket changes its state",
        when="The socket is about to change its state. TIME-WAIT never shows: that is a socket of another kind.",
        arguments="the state it leaves; the state it enters",
        path="tcp_set_state()",
        tells="How connections end: with the error of the socket, closed, reset, timed out or refused.",
        decode=_transition,
    ),
    Operator(
        11,
        "TCP_LISTEN_CB",
        short="a process calls listen()",
        when="A socket begins to listen, in the context of its process.",
        path="__inet_listen_sk(), from inet_listen()",
        tells="Who listens. The queue's limit is min(backlog of listen(), net.core.somaxconn).",
        unseen="Listeners that were there before the start do not call.",
    ),
    Operator(
        12,
        "RTT_CB",
        "RTT",
        short="a sample of the round-trip time",
        when="An acknowledgement gave a sample of the round-trip time.",
        arguments="the sample, microseconds; srtt, in eighths of a microsecond (both since 6.10)",
        path="tcp_bpf_rtt(), from tcp_rtt_estimator()",
        tells="The distribution of round trips, which a mean hides: half of them are below p50, one of a hundred above"
        " p99.",
        decode=_rtt,
        retires=True,
    ),
    Operator(
        13,
        "PARSE_HDR_OPT_CB",
        "PARSE_ALL_HDR_OPT, PARSE_UNKNOWN_HDR_OPT",
        short="a header came with options",
        when="A segment came the slow way through tcp_input.c: out of order, with SACK blocks, or in a handshake.",
        path="bpf_skops_parse_hdr(), from tcp_validate_incoming()",
        tells="That segments leave the fast path: SACK blocks, reordering, small windows.",
        unseen="Segments in order take the fast path (header prediction) and never call.",
        retires=True,
    ),
    Operator(
        14,
        "HDR_OPT_LEN_CB",
        "WRITE_HDR_OPT",
        short="a header is about to be made",
        when="A segment is about to leave, an ACK too, and a program may reserve room for an option of its own. It is"
        " asked about twice for each segment: tcp_current_mss() wants to know as well.",
        path="bpf_skops_hdr_opt_len(), from tcp_established_options(), tcp_syn_options() and tcp_synack_options()",
        tells="Segments about to leave. The only call of a socket that merely receives.",
        retires=True,
    ),
    Operator(
        15,
        "WRITE_HDR_OPT_CB",
        "WRITE_HDR_OPT",
        short="an option may be written",
        when="After a program has reserved room in HDR_OPT_LEN_CB.",
        path="bpf_skops_write_hdr_opt(), from __tcp_transmit_skb() and tcp_make_synack()",
        tells="Zero is right: this program reserves nothing, so that it changes no packet. A count would mean that"
        " another program writes options.",
        unseen="A monitor that reserves nothing never sees it.",
        retires=True,
    ),
)
"""The fifteen operators that this program counts; kernels since 6.15 have further ones, for timestamping."""

OPERATORS_BY_NAME = {operator.name.lower(): operator for operator in OPERATORS}


def find(name: str) -> Operator | None:
    """Return the operator with this name, or None.

    Case, the prefix ``BPF_SOCK_OPS_`` and the suffix ``_CB`` are optional.
    """
    plain = name.lower().removeprefix("bpf_sock_ops_")
    return (
        OPERATORS_BY_NAME.get(plain) or OPERATORS_BY_NAME.get(f"{plain}_cb") or OPERATORS_BY_NAME.get(f"tcp_{plain}_cb")
    )


def decoded(operator: Operator, args: Sequence[int]) -> str:
    """Return the arguments of a call as text; "" if they say nothing."""
    return operator.decode([int(value) for value in args])


def is_partial(operator: Operator, callbacks_mode: str) -> bool:
    """Return whether an operator's count leaves out packets.

    It does if its flag is cleared after a connection's first samples: see ``--callbacks``.
    """
    return operator.retires and callbacks_mode != "every"
