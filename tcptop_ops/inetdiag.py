"""What sock_diag answers about TCP sockets, made into rows of SOCKET: whole columns at a time.

A socket is a struct inet_diag_msg (include/uapi/linux/inet_diag.h) and attributes, among them struct tcp_info
(include/uapi/linux/tcp.h) as tcp_get_info() fills it. tcp_info only ever grows at its end, so the length that comes
tells what this kernel knows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import netlink
from tcptop_ops.snapshot import SOCKET, UNKNOWN_U32, Records, State, Timer

AF_INET = 2

# Attributes: enum of include/uapi/linux/inet_diag.h. The first three are asked for, the others come unasked.
INET_DIAG_INFO = 2
INET_DIAG_CONG = 4
INET_DIAG_SKMEMINFO = 7
INET_DIAG_ULP_INFO = 19  # on older kernels to CAP_NET_ADMIN only
INET_DIAG_CGROUP_ID = 21  # since 5.8
KINDS = (INET_DIAG_INFO, INET_DIAG_CONG, INET_DIAG_SKMEMINFO, INET_DIAG_ULP_INFO, INET_DIAG_CGROUP_ID)
EXTENSIONS = sum(1 << kind - 1 for kind in KINDS[:3])

MESSAGE = np.dtype(
    [
        ("family", "u1"),
        ("state", "u1"),
        ("timer", "u1"),
        ("retrans", "u1"),
        ("lport", ">u2"),
        ("rport", ">u2"),
        ("laddr", "u4", (4,)),
        ("raddr", "u4", (4,)),
        ("ifindex", "u4"),
        ("cookie", "u4", (2,)),  # low, high
        ("expires", "u4"),  # ms
        ("recv_q", "u4"),
        ("send_q", "u4"),
        ("uid", "u4"),
        ("inode", "u4"),
    ]
)
"""struct inet_diag_msg, by the names of SOCKET."""

INFO = np.dtype(
    [
        (name, kind)
        for kind, names in (
            ("u1", "state ca_state retransmits probes backoff options wscale app_limited"),
            ("u4", "rto_us ato_us mss rcv_mss unacked sacked lost retrans_out fackets"),
            ("u4", "last_sent_ms last_ack_sent_ms last_received_ms last_ack_received_ms pmtu rcv_ssthresh"),
            ("u4", "srtt_us rttvar_us ssthresh cwnd advmss reordering rcv_rtt_us rcv_space retrans_segs"),
            ("u8", "pacing_rate max_pacing_rate bytes_acked bytes_received"),
            ("u4", "segs_out segs_in notsent min_rtt_us data_segs_in data_segs_out"),
            ("u8", "delivery_rate busy_us rwnd_limited_us sndbuf_limited_us"),
            ("u4", "delivered delivered_ce"),
            ("u8", "bytes_sent bytes_retrans"),
            ("u4", "dsack_dups reord_seen ooo_in snd_wnd rcv_wnd rehash"),
            ("u2", "total_rto total_rto_recoveries"),
            ("u4", "total_rto_ms"),
        )
        for name in names.split()
    ]
)
"""The first 248 bytes of struct tcp_info, by the names of SOCKET where the value is the same. Rates in bytes a second.

It has 280 on 6.18 and on 7.2, which packs the last four in another way (``ecn_mode:2, accecn_opt_seen:2,
accecn_fail_mode:4`` in place of two u16): they tell about accurate ECN, and nothing here reads them.
"""

SKMEMINFO = np.dtype([("", "V32"), ("drops", "u4")])
"""The u32 values of enum in include/uapi/linux/sock_diag.h; SK_MEMINFO_DROPS is the ninth."""

NAME = np.dtype([("words", "u8", (2,))])
"""Up to TCP_CA_NAME_MAX = 16 bytes of text."""

ULP_INFO = np.dtype([("length", "u2"), ("kind", "u2"), ("name", "S8")])
"""INET_ULP_INFO_NAME, the first attribute within."""

IDIAG_TIMER_DELACK = 5  # since 7.1
_PLAIN = ["family", "state", "timer", "lport", "rport", "ifindex", "recv_q", "send_q", "uid", "inode"]
_BITS = frozenset({"wscale", "app_limited"})
_COPIED = [name for name in INFO.names or () if name in (SOCKET.names or ()) and name not in _BITS | {"state"}]
# Bit fields begin at the other end on big-endian machines: tcpi_snd_wscale, tcpi_rcv_wscale, app_limited.
_SND_SHIFT, _RCV_SHIFT, _LIMITED_SHIFT = (0, 4, 0) if sys.byteorder == "little" else (4, 0, 7)
_KEPT = (np.tri(17, 16, -1) * 255).astype("u1").view("u8")  # row n keeps the first n bytes of a name
_MAPPED = np.frombuffer(b"\0\0\xff\xff", "u4")[0]


@dataclass
class Dump:
    """One pass over the sockets of a namespace.

    ``time_wait``: what the kernel keeps in a struct inet_timewait_sock. A FIN-WAIT-2 without a process is one too,
    though its state is told as FIN-WAIT-2: it has no tcp_info any more, and so no row. /proc/net/sockstat counts alike.
    """

    sockets: Records
    time_wait: int = 0
    syn_recv: int = 0
    info_bytes: int = INFO.itemsize  # of the shortest struct tcp_info
    cgroups: bool = False  # whether the kernel told any socket's
    interrupted: bool = False  # the sockets changed so much meanwhile that the kernel itself says so


class Rows:
    """An array of SOCKET that grows, and is used again: a dump of 100,000 sockets takes 29 MB."""

    def __init__(self) -> None:
        """Begin with none."""
        self._array = np.zeros(0, SOCKET)
        self._used = 0

    def add(self, count: int) -> Records:
        """So many more rows, of zeros."""
        if self._used + count > len(self._array):
            grown = np.zeros(max(1024, (self._used + count) * 3 // 2), SOCKET)
            grown[: self._used] = self.all()
            self._array = grown
        added = self._array[self._used : self._used + count]
        added.view("u1").fill(0)
        self._used += count
        return added

    def __len__(self) -> int:
        """How many there are."""
        return self._used

    def cut(self, count: int) -> None:
        """Keep the first so many."""
        self._used = count

    def all(self, start: int = 0) -> Records:
        """They hold until one more is added."""
        return self._array[start : self._used]


def told_by(part: netlink.Messages, buffer: netlink.Bytes) -> Records:
    """Return the struct inet_diag_msg of each."""
    if bool((part.end - part.begin < netlink.HEADER.itemsize + MESSAGE.itemsize).any()):
        raise netlink.damaged("a socket's message is too short")
    return netlink.at(buffer, MESSAGE, part.begin + netlink.HEADER.itemsize)


def count(told: Records, found: Dump) -> NDArray[np.bool_]:
    """Count the sockets that get no row: true for the others."""
    timewait = (told["timer"] == 3) | (told["state"] == State.TIME_WAIT)  # inet_twsk_diag_fill()
    syn_recv = (told["state"] == State.SYN_RECV) & ~timewait
    found.time_wait += int(timewait.sum())
    found.syn_recv += int(syn_recv.sum())
    has_row: NDArray[np.bool_] = ~(timewait | syn_recv)
    return has_row


def half_open(part: netlink.Messages, buffer: netlink.Bytes) -> Records:
    """Who waits in SYN-RECV: SOCKET rows of a part of the answer, addresses and ports alone."""
    told = told_by(part, buffer)
    told = told[(told["state"] == State.SYN_RECV) & (told["timer"] != 3)]
    sockets = np.zeros(len(told), SOCKET)
    if len(told):
        _fill_identity(sockets, told)
    return sockets


def take(part: netlink.Messages, buffer: netlink.Bytes, rows: Rows, found: Dump) -> None:
    """Make rows of a part of the answer."""
    told = told_by(part, buffer)
    whole = count(told, found)
    if not whole.all():
        told, part = told[whole], part.take(whole)
    if not len(told):
        return
    begin = part.begin + netlink.HEADER.itemsize + MESSAGE.itemsize
    place, length = netlink.attributes(buffer, begin, part.end, KINDS)
    sockets = rows.add(len(told))
    _fill_identity(sockets, told)
    _fill_info(sockets, netlink.at(buffer, INFO, place[0]), length[0])
    _fill_extras(sockets, buffer, place, length)
    found.info_bytes = min(found.info_bytes, int(np.where(length[0] < 0, INFO.itemsize, length[0]).min()))
    found.cgroups |= bool((length[4] >= 8).any())


def _fill_identity(sockets: Records, told: Records) -> None:
    for name in _PLAIN:
        sockets[name] = told[name]
    sockets["timer"][told["timer"] == IDIAG_TIMER_DELACK] = Timer.DELACK
    sockets["cookie"] = told["cookie"][:, 0] | told["cookie"][:, 1].astype("u8") << np.uint64(32)
    expires = told["expires"]
    sockets["timer_us"] = _microseconds(np.where(expires > 0x7FFFFFFF, 0, expires))  # due already, on old kernels
    is_ipv4 = told["family"] == AF_INET
    for name in ("laddr", "raddr"):  # of IPv4: one word, then zeros (inet_diag_msg_common_fill())
        source, target = told[name], sockets[name].view("u4")
        target[:, 0] = np.where(is_ipv4, 0, source[:, 0])
        target[:, 1] = source[:, 1]
        target[:, 2] = np.where(is_ipv4, _MAPPED, source[:, 2])
        target[:, 3] = np.where(is_ipv4, source[:, 0], source[:, 3])


def _fill_info(sockets: Records, info: Records, length: netlink.Ints) -> None:
    for name in _COPIED:  # one by one is twice as fast as all in one assignment
        sockets[name] = info[name]  # times busy and limited are cut to 32 bits, as other sources': they make deltas
    wscale = info["wscale"]
    sockets["wscale"] = (wscale >> _SND_SHIFT & 15) | (wscale >> _RCV_SHIFT & 15) << 4
    sockets["app_limited"] = info["app_limited"] >> _LIMITED_SHIFT & 1
    sockets["last_sent_us"] = _microseconds(info["last_sent_ms"])
    sockets["last_received_us"] = _microseconds(info["last_received_ms"])
    sockets["last_rtt_us"] = UNKNOWN_U32
    _fill_rate(sockets, info)
    _erase_missing(sockets, length)
    listening = sockets["state"] == State.LISTEN
    sockets["sacked"][listening] = 0  # there it is the limit of the queue (tcp_get_info()), which send_q has
    sockets["min_rtt_us"][listening] = UNKNOWN_U32


def _fill_rate(sockets: Records, info: Records) -> None:
    """Write segments and a time that make tcpi_delivery_rate (tcp_compute_delivery_rate()), to a millionth.

    The kernel's own two numbers are not told, only mss * segments / time: here it is as many whole segments as about
    one second takes, at least one, and the time that they take at this rate.
    """
    rate, mss = info["delivery_rate"].astype("f8"), info["mss"].astype("f8")
    known = (rate > 0) & (mss > 0)
    segments = np.where(known, np.clip(rate // np.maximum(mss, 1), 1, UNKNOWN_U32 - 1), 0)
    interval = np.where(known, segments * mss * 1e6 / np.maximum(rate, 1), 0)
    sockets["rate_delivered"] = segments
    sockets["rate_interval_us"] = np.minimum(np.rint(interval), UNKNOWN_U32 - 1)


def _erase_missing(sockets: Records, length: netlink.Ints) -> None:
    """Write 0 (8 and 64 bits) or unknown where a shorter tcp_info has ended: what lies there was something else."""
    if int(length.min()) >= INFO.itemsize:
        return
    sources = {"last_sent_us": "last_sent_ms", "last_received_us": "last_received_ms"}
    sources |= {"rate_delivered": "delivery_rate", "rate_interval_us": "delivery_rate"}
    sources |= {name: name for name in [*_COPIED, *_BITS]}
    for name, source in sources.items():
        unknown = UNKNOWN_U32 if SOCKET[name].itemsize == 4 and source != "delivery_rate" else 0
        sockets[name][length < info_end(source)] = unknown


def info_end(name: str) -> int:
    """Where a member of tcp_info ends, bytes."""
    assert INFO.fields is not None
    kind, offset = INFO.fields[name][:2]
    return offset + kind.itemsize


def _fill_extras(sockets: Records, buffer: netlink.Bytes, place: netlink.Ints, length: netlink.Ints) -> None:
    """Congestion control, drops, MPTCP and cgroup, as far as told."""
    names = netlink.at(buffer, NAME, place[1])["words"] & _KEPT[np.clip(length[1], 0, 16)]
    sockets["cc"] = names.view("S16")[:, 0]
    drops = netlink.at(buffer, SKMEMINFO, place[2])["drops"]
    sockets["drops"] = np.where(length[2] >= SKMEMINFO.itemsize, drops, UNKNOWN_U32)
    upper = np.flatnonzero(length[3] >= ULP_INFO.itemsize - 2)  # "mptcp" and its zero are 6 bytes
    if len(upper):
        sockets["mptcp"][upper] = netlink.at(buffer, ULP_INFO, place[3][upper])["name"] == b"mptcp"
    cgroup = netlink.at(buffer, np.dtype([("id", "u8")]), place[4])["id"]
    sockets["cgroup_id"] = np.where(length[4] >= 8, cgroup, 0)


def _microseconds(milliseconds: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """More than 71 minutes do not fit into 32 bits: then just that."""
    found: NDArray[np.uint64] = np.minimum(milliseconds.astype("u8") * np.uint64(1000), np.uint64(UNKNOWN_U32 - 1))
    return found
