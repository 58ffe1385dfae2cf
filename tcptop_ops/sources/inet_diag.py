"""Answers of sock_diag about TCP sockets, made into SOCKET rows: whole columns at a time. Pure.

A socket is a struct inet_diag_msg (include/uapi/linux/inet_diag.h) and attributes, among them struct tcp_info
(include/uapi/linux/tcp.h) as tcp_get_info() fills it. tcp_info grows at its end only, so its length shows which members
this kernel has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.enums import EcnMode, State, Timer
from tcptop_ops.model.records import SOCKET, UNKNOWN_U32, UNKNOWN_U64, UNLIMITED_RATE, Records, unknown_of
from tcptop_ops.sources import netlink

AF_INET = 2

# Attributes, of include/uapi/linux/inet_diag.h. The first three are requested, the kernel sends the others anyway.
INET_DIAG_INFO = 2
INET_DIAG_CONG = 4
INET_DIAG_SKMEMINFO = 7
INET_DIAG_ULP_INFO = 19  # older kernels send it to CAP_NET_ADMIN only
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
"""struct inet_diag_msg, with the names of SOCKET."""

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
            ("u4", "total_rto_ms received_ce delivered_e1_bytes delivered_e0_bytes delivered_ce_bytes"),
            ("u4", "received_e1_bytes received_e0_bytes received_ce_bytes accecn"),
        )
        for name in names.split()
    ]
)
"""The 280 bytes of struct tcp_info that Linux 6.18 to 7.2 have, with the names of SOCKET where the value is the same.

Rates are bytes a second. 6.7 has 248 of them. ``accecn`` is packed in one of two ways: see ``_fill_ecn``.
"""

SKMEMINFO = np.dtype([("rmem", "u4"), ("rcvbuf", "u4"), ("", "V24"), ("drops", "u4")])
"""INET_DIAG_SKMEMINFO: u32 values indexed by SK_MEMINFO_* (include/uapi/linux/sock_diag.h); DROPS is the ninth."""

NAME = np.dtype([("words", "u8", (2,))])
"""A name of at most 16 bytes (TCP_CA_NAME_MAX), as two words that can be masked."""

ULP_INFO = np.dtype([("length", "u2"), ("kind", "u2"), ("name", "S8")])
"""INET_ULP_INFO_NAME with its header: the first attribute nested in INET_DIAG_ULP_INFO."""

IDIAG_TIMER_DELACK = 5  # since 7.1
_US_OF_MS = np.uint64(1000)
_STAMPS = {
    "last_sent_us": "last_sent_ms",
    "last_received_us": "last_received_ms",
    "last_ack_received_us": "last_ack_received_ms",
}
_NEVER_SET = (State.LISTEN, State.SYN_SENT)
_PLAIN = ["family", "state", "timer", "lport", "rport", "ifindex", "recv_q", "send_q", "uid", "inode"]
_BITS = frozenset({"wscale", "app_limited"})
_COPIED = [name for name in INFO.names or () if name in (SOCKET.names or ()) and name not in _BITS | {"state"}]
# Shifts of the bit fields tcpi_snd_wscale, tcpi_rcv_wscale, app_limited: big-endian compilers fill from the top.
_SND_SHIFT, _RCV_SHIFT, _LIMITED_SHIFT = (0, 4, 0) if sys.byteorder == "little" else (4, 0, 7)
_KEPT = (np.tri(17, 16, -1) * 255).astype("u1").view("u8")  # row n keeps the first n bytes of a name
_MAPPED = np.frombuffer(b"\0\0\xff\xff", "u4")[0]


def _not_known() -> None:
    return None


@dataclass
class Dump:
    """The sockets of a network namespace, as one pass listed them.

    ``time_wait`` counts every struct inet_timewait_sock, as /proc/net/sockstat does. A FIN-WAIT-2 that no process holds
    can be one: it has no tcp_info, and so no row.
    """

    sockets: Records  # SOCKET
    time_wait: int = 0
    syn_recv: int = 0  # request sockets
    info_bytes: int = INFO.itemsize  # of the shortest struct tcp_info
    cgroups: bool = False  # whether the kernel reported the cgroup of any socket
    interrupted: bool = False  # NLM_F_DUMP_INTR: they changed meanwhile, so that some may be missing
    packs_ecn: Callable[[], bool | None] = _not_known  # whether ``accecn`` has the mode; asked where it matters


class DumpBuffer:
    """A growing array of SOCKET that is used for one dump after the other: 100,000 sockets take 29 MB."""

    def __init__(self) -> None:
        """Begin with no rows."""
        self._array = np.zeros(0, SOCKET)
        self._used = 0

    def add(self, count: int) -> Records:
        """Append ``count`` rows of zeros and return them, a view. Earlier views may be of an array no longer used."""
        if self._used + count > len(self._array):
            grown = np.zeros(max(1024, (self._used + count) * 3 // 2), SOCKET)
            grown[: self._used] = self.all()
            self._array = grown
        added = self._array[self._used : self._used + count]
        added.view("u1").fill(0)
        self._used += count
        return added

    def __len__(self) -> int:
        """Return the number of rows in use."""
        return self._used

    def cut(self, count: int) -> None:
        """Keep the first ``count`` rows only."""
        self._used = count

    def all(self, start: int = 0) -> Records:
        """Return the rows from ``start`` on, a view that is valid until rows are added or cut."""
        return self._array[start : self._used]


def told_by(part: netlink.Messages, buffer: netlink.Bytes) -> Records:
    """Return the struct inet_diag_msg of each message, as MESSAGE rows. Raises Failed if one is too short."""
    if bool((part.end - part.begin < netlink.HEADER.itemsize + MESSAGE.itemsize).any()):
        raise netlink.damaged("a socket's message is too short")
    return netlink.at(buffer, MESSAGE, part.begin + netlink.HEADER.itemsize)


def count(told: Records, found: Dump, part: netlink.Messages, buffer: netlink.Bytes) -> NDArray[np.bool_]:
    """Add the sockets that get no row to the counts of ``found``; return which have one (NDArray[np.bool_])."""
    timewait = (told["timer"] == 3) | (told["state"] == State.TIME_WAIT)  # inet_twsk_diag_fill()
    syn_recv = _are_requests(told, part, buffer)
    found.time_wait += int(timewait.sum())
    found.syn_recv += int(syn_recv.sum())
    has_row: NDArray[np.bool_] = ~(timewait | syn_recv)
    return has_row


def _are_requests(told: Records, part: netlink.Messages, buffer: netlink.Bytes) -> NDArray[np.bool_]:
    """Return which are request sockets, by their lack of a struct tcp_info: inet_req_diag_fill().

    A whole socket is in SYN-RECV where TCP Fast Open accepted data with the SYN, or both sides opened at once.
    """
    found: NDArray[np.bool_] = (told["state"] == State.SYN_RECV) & (told["timer"] != 3)
    which = np.flatnonzero(found)
    if len(which):
        begin = part.begin[which] + netlink.HEADER.itemsize + MESSAGE.itemsize
        _, length = netlink.attributes(buffer, begin, part.end[which], (INET_DIAG_INFO,))
        found[which[length[0] >= 0]] = False
    return found


def half_open(part: netlink.Messages, buffer: netlink.Bytes) -> Records:
    """Return the request sockets of a part of an answer: SOCKET rows with addresses and ports only."""
    told = told_by(part, buffer)
    told = told[_are_requests(told, part, buffer)]
    sockets = np.zeros(len(told), SOCKET)
    if len(told):
        _fill_identity(sockets, told)
    return sockets


def others(part: netlink.Messages, buffer: netlink.Bytes, told_of: NDArray[np.uint64]) -> Records:
    """Return the sockets of a part of an answer that are not among these cookies, which are sorted.

    SOCKET rows with addresses, ports, state, cookie and cgroup only; none of TIME-WAIT. The answer is to a request for
    states without SYN-RECV, of which a request socket can't be told from a whole one here.
    """
    told = told_by(part, buffer)
    is_new = (told["timer"] != 3) & (told["state"] != State.TIME_WAIT)
    is_new &= ~find_sorted(told_of, _cookies(told))[1]
    sockets = np.zeros(int(np.count_nonzero(is_new)), SOCKET)
    if len(sockets):
        part = part.take(is_new)
        _fill_identity(sockets, told[is_new])
        begin = part.begin + netlink.HEADER.itemsize + MESSAGE.itemsize
        place, length = netlink.attributes(buffer, begin, part.end, (INET_DIAG_CGROUP_ID,))
        sockets["cgroup_id"] = _cgroup_ids(buffer, place[0], length[0])
    return sockets


def time_wait(part: netlink.Messages, buffer: netlink.Bytes) -> Records:
    """Return each struct inet_timewait_sock of a part of an answer: SOCKET rows with addresses, ports and the timer."""
    told = told_by(part, buffer)
    told = told[(told["timer"] == Timer.TIME_WAIT) | (told["state"] == State.TIME_WAIT)]
    sockets = np.zeros(len(told), SOCKET)
    if len(told):
        _fill_identity(sockets, told)
    return sockets


def take(part: netlink.Messages, buffer: netlink.Bytes, rows: DumpBuffer, found: Dump) -> None:
    """Append the sockets of a part of an answer to ``rows``, and count in ``found`` those that get no row."""
    told = told_by(part, buffer)
    whole = count(told, found, part, buffer)
    if not whole.all():
        told, part = told[whole], part.take(whole)
    if not len(told):
        return
    begin = part.begin + netlink.HEADER.itemsize + MESSAGE.itemsize
    place, length = netlink.attributes(buffer, begin, part.end, KINDS)
    sockets = rows.add(len(told))
    _fill_identity(sockets, told)
    info = netlink.at(buffer, INFO, place[0])
    _fill_info(sockets, info, length[0])
    _fill_ecn(sockets, info, length[0], found.packs_ecn)
    _fill_extras(sockets, buffer, place, length)
    found.info_bytes = min(found.info_bytes, int(np.where(length[0] < 0, INFO.itemsize, length[0]).min()))
    found.cgroups |= bool((length[4] >= 8).any())


def _cookies(told: Records) -> NDArray[np.uint64]:
    cookies: NDArray[np.uint64] = told["cookie"][:, 0] | told["cookie"][:, 1].astype("u8") << np.uint64(32)
    return cookies


def _fill_identity(sockets: Records, told: Records) -> None:
    for name in _PLAIN:
        sockets[name] = told[name]
    sockets["timer"][told["timer"] == IDIAG_TIMER_DELACK] = Timer.DELACK
    sockets["cookie"] = _cookies(told)
    expires = told["expires"]
    sockets["timer_us"] = np.where(expires > 0x7FFFFFFF, 0, expires)  # older kernels: it is due already
    sockets["timer_us"] *= _US_OF_MS
    is_ipv4 = told["family"] == AF_INET
    for name in ("laddr", "raddr"):  # of IPv4: one word, then zeros (inet_diag_msg_common_fill())
        source, target = told[name], sockets[name].view("u4")
        target[:, 0] = np.where(is_ipv4, 0, source[:, 0])
        target[:, 1] = source[:, 1]
        target[:, 2] = np.where(is_ipv4, _MAPPED, source[:, 2])
        target[:, 3] = np.where(is_ipv4, source[:, 0], source[:, 3])


def _fill_info(sockets: Records, info: Records, length: netlink.Ints) -> None:
    for name in _COPIED:  # one by one is twice as fast as all in one assignment
        sockets[name] = info[name]  # busy and limited times are cut to 32 bits: only their differences are used
    wscale = info["wscale"]
    sockets["wscale"] = (wscale >> _SND_SHIFT & 15) | (wscale >> _RCV_SHIFT & 15) << 4
    sockets["app_limited"] = info["app_limited"] >> _LIMITED_SHIFT & 1
    for name, source in _STAMPS.items():
        np.multiply(info[source], _US_OF_MS, out=sockets[name], dtype="u8")
    unset = np.flatnonzero(np.isin(info["state"], _NEVER_SET))  # lsndtime and lrcvtime are 0: as if since the boot
    sockets["last_sent_us"][unset] = sockets["last_received_us"][unset] = UNKNOWN_U64
    sockets["last_ack_received_us"][info["state"] == State.LISTEN] = UNKNOWN_U64
    sockets["last_rtt_us"] = UNKNOWN_U32
    rate, most = info["pacing_rate"], info["max_pacing_rate"]
    sockets["pacing_capped"] = (rate >= most) & (rate != UNLIMITED_RATE)
    _fill_rate(sockets, info)
    _erase_missing(sockets, length)
    # TCP_FASTOPEN_CONNECT before the first write: tcp_connect() sets snd_una, and these are told as more than that.
    unsent = np.flatnonzero(sockets["state"] == State.SYN_SENT)
    unsent = unsent[sockets["unacked"][unsent] == 0]
    sockets["send_q"][unsent] = sockets["notsent"][unsent] = 0
    listening = sockets["state"] == State.LISTEN
    sockets["sacked"][listening] = 0  # tcp_get_info() puts the accept queue's limit there, which is in send_q
    sockets["min_rtt_us"][listening] = UNKNOWN_U32


_ASKED = 8  # TCPI_OPT_ECN
_PACKED_MODES = np.array([EcnMode.NONE, EcnMode.CLASSIC, EcnMode.ACCURATE, EcnMode.PENDING], "u1")
# Shifts of ecn_mode:2 and accecn_fail_mode:4 of 7.2, with accecn_opt_seen:2 between them; of u16 accecn_fail_mode of
# 6.18, behind which is u16 accecn_opt_seen.
_MODE_SHIFT, _FAIL_SHIFT, _FIRST_HALF = (0, 4, 0) if sys.byteorder == "little" else (30, 24, 16)


def _fill_ecn(sockets: Records, info: Records, length: netlink.Ints, packs_ecn: Callable[[], bool | None]) -> None:
    """Fill in what was agreed about ECN, and what of accurate ECN has failed (RFC 9768).

    TCPI_OPT_ECN is set for either kind, and while a SYN asks for it. Which kind it is tells ``tcpi_ecn_mode`` (7.2);
    6.18 can't be told to use the accurate one, and a kernel between them shows it by the option that it has seen. Where
    it is not known how the last bytes are packed, the kind is not known.
    """
    asks = sockets["options"] & _ASKED != 0
    modes = np.where(asks, EcnMode.CLASSIC, EcnMode.NONE).astype("u1")
    may_be_accurate = np.flatnonzero(asks & (length >= INFO.itemsize))
    if len(may_be_accurate):
        told, is_packed = info["accecn"][may_be_accurate], packs_ecn()
        if is_packed:
            modes[may_be_accurate] = _PACKED_MODES[told >> _MODE_SHIFT & 3]
            sockets["ecn_fail"][may_be_accurate] = told >> _FAIL_SHIFT & 15
        elif is_packed is None:
            modes[may_be_accurate] = EcnMode.UNKNOWN
        else:
            modes[may_be_accurate[told != 0]] = EcnMode.ACCURATE
            sockets["ecn_fail"][may_be_accurate] = told >> _FIRST_HALF & 15
    modes[asks & (sockets["state"] == State.SYN_SENT)] = EcnMode.PENDING
    modes[(sockets["state"] == State.LISTEN) | (length < info_end("options"))] = EcnMode.UNKNOWN
    sockets["ecn_mode"] = modes


def _fill_rate(sockets: Records, info: Records) -> None:
    """Fill in a number of segments and an interval that yield tcpi_delivery_rate to a millionth.

    The kernel reports mss * segments / interval only (tcp_compute_delivery_rate()), not the two numbers. Here the
    segments are those of about a second at this rate, one at least, and the interval is how long they take.
    """
    rate, mss = info["delivery_rate"].astype("f8"), info["mss"].astype("f8")
    known = (rate > 0) & (mss > 0)
    segments = np.where(known, np.clip(rate // np.maximum(mss, 1), 1, UNKNOWN_U32 - 1), 0)
    interval = np.where(known, segments * mss * 1e6 / np.maximum(rate, 1), 0)
    sockets["rate_delivered"] = segments
    sockets["rate_interval_us"] = np.minimum(np.rint(interval), UNKNOWN_U32 - 1)


def _erase_missing(sockets: Records, length: netlink.Ints) -> None:
    """Erase the members that this kernel's shorter tcp_info lacks: their places hold bytes of what follows it.

    A field of 32 bits or a time becomes the greatest of its kind, one of 8 or 64 bits 0, and so does the delivery rate.
    """
    shortest = int(length.min())
    if shortest >= INFO.itemsize:
        return
    sources = _STAMPS | {"rate_delivered": "delivery_rate", "rate_interval_us": "delivery_rate"}
    sources |= {name: name for name in [*_COPIED, *_BITS]}
    for name, source in sources.items():
        if info_end(source) <= shortest:
            continue
        told = name in _STAMPS or (SOCKET[name].itemsize == 4 and source != "delivery_rate")
        unknown = unknown_of(SOCKET[name]) if told else 0
        sockets[name][length < info_end(source)] = unknown


def info_end(name: str) -> int:
    """Return the offset in bytes at which a member of tcp_info ends."""
    assert INFO.fields is not None
    kind, offset = INFO.fields[name][:2]
    return offset + kind.itemsize


def _fill_extras(sockets: Records, buffer: netlink.Bytes, place: netlink.Ints, length: netlink.Ints) -> None:
    """Fill in congestion control, drops, MPTCP and cgroup from the attributes that are there (length -1: missing)."""
    names = netlink.at(buffer, NAME, place[1])["words"] & _KEPT[np.clip(length[1], 0, 16)]
    sockets["cc"] = names.view("S16")[:, 0]
    memory = netlink.at(buffer, SKMEMINFO, place[2])
    for name in ("rmem", "rcvbuf", "drops"):
        sockets[name] = np.where(length[2] >= SKMEMINFO.itemsize, memory[name], UNKNOWN_U32)
    upper = np.flatnonzero(length[3] >= ULP_INFO.itemsize - 2)  # "mptcp" and its zero are 6 bytes
    if len(upper):
        sockets["mptcp"][upper] = netlink.at(buffer, ULP_INFO, place[3][upper])["name"] == b"mptcp"
    sockets["cgroup_id"] = _cgroup_ids(buffer, place[4], length[4])


def _cgroup_ids(buffer: netlink.Bytes, place: netlink.Ints, length: netlink.Ints) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = netlink.at(buffer, np.dtype([("id", "u8")]), place)["id"]
    return np.where(length >= 8, found, np.uint64(0))


REQUEST = np.dtype(
    [
        *netlink.HEADER.descr,
        *((name, "u1") for name in ("family", "src_len", "dst_len", "extensions")),
        ("lport", ">u2"),
        ("rport", ">u2"),
        ("laddr", "u4", (4,)),
        ("raddr", "u4", (4,)),
        ("ifindex", "u4"),
        ("cookie", "u4", (2,)),
        ("states", "u4"),
        ("dbs", "u4"),
    ]
)
"""struct nlmsghdr with a struct inet_diag_req behind it: a question about one socket."""


def requests(sockets: Records, kind: int, flags: int) -> Records:
    """Return REQUEST rows: questions about these SOCKET rows, by address and cookie. ``kind``, ``flags``: of nlmsghdr.

    The kernel looks the address up, and answers if the socket that it finds has this cookie
    (inet_diag_find_one_icsk()): for one in SYN-RECV to LAST-ACK that is always it. Of listeners it may be another one.
    """
    asked = np.zeros(len(sockets), REQUEST)
    asked["length"], asked["type"], asked["flags"] = REQUEST.itemsize, kind, flags
    asked["extensions"] = EXTENSIONS
    for name in ("family", "lport", "rport", "ifindex"):
        asked[name] = sockets[name]
    asked["cookie"][:, 0] = sockets["cookie"] & np.uint64(UNKNOWN_U32)
    asked["cookie"][:, 1] = sockets["cookie"] >> np.uint64(32)
    is_ipv4 = sockets["family"] == AF_INET
    for name in ("laddr", "raddr"):
        words = np.ascontiguousarray(sockets[name]).view("u4")
        asked[name] = np.where(is_ipv4[:, None], 0, words)
        asked[name][is_ipv4, 0] = words[is_ipv4, 3]
    return asked
