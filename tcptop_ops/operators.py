"""The operators of sock_ops (enum in include/uapi/linux/bpf.h), called through tcp_call_bpf() of include/net/tcp.h."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operator:
    """One operator. ``flag``: the callback flag that asks for it, "" where it is always called."""

    number: int
    name: str
    flag: str = ""


OPERATORS: tuple[Operator, ...] = (
    Operator(1, "TIMEOUT_INIT"),
    Operator(2, "RWND_INIT"),
    Operator(3, "TCP_CONNECT_CB"),
    Operator(4, "ACTIVE_ESTABLISHED_CB"),
    Operator(5, "PASSIVE_ESTABLISHED_CB"),
    Operator(6, "NEEDS_ECN"),
    Operator(7, "BASE_RTT"),
    Operator(8, "RTO_CB", "RTO"),
    Operator(9, "RETRANS_CB", "RETRANS"),
    Operator(10, "STATE_CB", "STATE"),
    Operator(11, "TCP_LISTEN_CB"),
    Operator(12, "RTT_CB", "RTT"),
    Operator(13, "PARSE_HDR_OPT_CB", "PARSE_ALL_HDR_OPT, PARSE_UNKNOWN_HDR_OPT"),
    Operator(14, "HDR_OPT_LEN_CB", "WRITE_HDR_OPT"),
    Operator(15, "WRITE_HDR_OPT_CB", "WRITE_HDR_OPT"),
)
"""The fifteen that a monitor counts; kernels from 6.15 on know timestamping ones besides."""
