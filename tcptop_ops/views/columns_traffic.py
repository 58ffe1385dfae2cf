"""Columns that tell what is sent and received: windows, queues, bytes, rates."""

from __future__ import annotations

from tcptop_ops import text
from tcptop_ops.views import column_readers as read
from tcptop_ops.views.column import LEAST, MEAN, SUM, Column, GroupRule
from tcptop_ops.views.column_builders import (
    number,
    observed_us,
    of_connections,
    own_half_open,
    word,
)
from tcptop_ops.views.column_text import (
    rounded,
)

TRAFFIC: tuple[Column, ...] = (
    number("cwnd", "CWND", 5, "congestion window, segments", read.connected("cwnd"), group=MEAN),
    number("ssthresh", "SSTHR", 5, "slow-start threshold, segments", read.ssthresh, group=MEAN),
    number("mss", "MSS", 5, "maximum segment size, bytes", read.connected("mss"), group=LEAST),
    number(
        "snd_wnd",
        "SNDWN",
        5,
        "window that the peer offers, bytes",
        read.snd_wnd,
        show=text.si,
        group=LEAST,
    ),
    number("rcv_wnd", "RCVWN", 5, "window that we offer, bytes", read.connected("rcv_wnd"), show=text.si, group=LEAST),
    number("unacked", "UNACK", 5, "segments sent and not acknowledged", read.connected("unacked"), group=SUM),
    number("notsent", "NOTSN", 5, "bytes written and not sent", read.connected("notsent"), show=text.si, group=SUM),
    number(
        "recv_q",
        "RECVQ",
        5,
        "bytes received and not read; of a listener, not yet accepted",
        read.socket("recv_q"),
        show=text.si,
        group=of_connections("recv_q"),
    ),
    number(
        "send_q",
        "SENDQ",
        5,
        "bytes not acknowledged; of a listener, its queue's limit",
        read.socket("send_q"),
        show=text.si,
        group=of_connections("send_q"),
    ),
    word("cc", "CC", 8, "congestion control", lambda r, _: r.sockets["cc"]),
    number("backlog", "BKLOG", 5, "of a listener: connections not yet accepted", read.listening("recv_q"), group=SUM),
    number("backlog_max", "BKMAX", 5, "of a listener: how many may wait", read.listening("send_q"), group=SUM),
    number(
        "syn_recv",
        "SYN-R",
        5,
        "of a listener: handshakes not done yet",
        read.syn_recv,
        severity=(50, 200),
        group=GroupRule("sum", part=own_half_open),
    ),
    number(
        "drops",
        "DROPS",
        5,
        "segments or handshakes that this socket dropped",
        read.socket("drops"),
        severity=(1, 100),
        group=SUM,
    ),
    number(
        "bytes_acked", "ACKED", 6, "bytes sent and acknowledged", read.connected("bytes_acked"), show=text.si, group=SUM
    ),
    number("bytes_received", "RECVD", 6, "bytes received", read.connected("bytes_received"), show=text.si, group=SUM),
    number(
        "tx_bytes_per_s",
        "TX/s",
        6,
        "bytes a second acknowledged, now",
        read.rate("tx_bytes_per_s"),
        alias="tx",
        show=text.si,
        group=SUM,
    ),
    number(
        "rx_bytes_per_s",
        "RX/s",
        6,
        "bytes a second received, now",
        read.rate("rx_bytes_per_s"),
        alias="rx",
        show=text.si,
        group=SUM,
    ),
    number(
        "delivery_bytes_per_s",
        "DELIV",
        6,
        "the kernel's newest sample of the rate",
        read.delivery,
        alias="delivery",
        show=text.si,
        group=MEAN,
    ),
    number(
        "busy_pct",
        "BUSY%",
        5,
        "share of the window with data in flight",
        read.share("busy_us", None),
        show=text.percent,
        plain=rounded,
        group=GroupRule("share", part=read.win("busy_us"), whole=observed_us, most=100),
    ),
    number(
        "rwnd_limited_pct",
        "RWND%",
        5,
        "share of the busy time that waited for the peer's window",
        read.share("rwnd_limited_us", "busy_us"),
        show=text.percent,
        plain=rounded,
        group=GroupRule("share", part=read.win("rwnd_limited_us"), whole=read.win("busy_us"), most=100),
    ),
    number(
        "sndbuf_limited_pct",
        "SBUF%",
        5,
        "share of the busy time that waited for the send buffer",
        read.share("sndbuf_limited_us", "busy_us"),
        show=text.percent,
        plain=rounded,
        group=GroupRule("share", part=read.win("sndbuf_limited_us"), whole=read.win("busy_us"), most=100),
    ),
)
