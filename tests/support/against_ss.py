"""Rows of sock_diag compared with what ss prints about the same sockets."""

from __future__ import annotations

from typing import Any

import pytest

from tcptop_ops.model.enums import State
from tcptop_ops.model.records import UNKNOWN_U32, Records
from tests.support.witness import SsSocket


def row_of_port(sockets: Records, port: int) -> Any:
    """Return the one row with this local port."""
    (found,) = sockets[sockets["lport"] == port]
    return found


SS_NUMBERS = {  # of ss; ours; how many of ours make one of theirs
    "rtt": ("srtt_us", 1000),
    "rttvar": ("rttvar_us", 1000),
    "rto": ("rto_us", 1000),
    "mss": ("mss", 1),
    "rcvmss": ("rcv_mss", 1),
    "cwnd": ("cwnd", 1),
    "unacked": ("unacked", 1),
    "retrans_now": ("retrans_out", 1),
    "retrans_total": ("retrans_segs", 1),
    "lost": ("lost", 1),
    "sacked": ("sacked", 1),
    "dsack_dups": ("dsack_dups", 1),
    "reord_seen": ("reord_seen", 1),
    "rcv_ooopack": ("ooo_in", 1),
    "notsent": ("notsent", 1),
    "segs_out": ("segs_out", 1),
    "segs_in": ("segs_in", 1),
    "data_segs_out": ("data_segs_out", 1),
    "data_segs_in": ("data_segs_in", 1),
    "bytes_sent": ("bytes_sent", 1),
    "bytes_acked": ("bytes_acked", 1),
    "bytes_received": ("bytes_received", 1),
    "delivered": ("delivered", 1),
    "delivered_ce": ("delivered_ce", 1),
    "snd_wnd": ("snd_wnd", 1),
}
SS_STATES = {"ESTAB": 1, "SYN-SENT": 2, "FIN-WAIT-1": 4, "FIN-WAIT-2": 5, "CLOSE-WAIT": 8, "LAST-ACK": 9, "LISTEN": 10}


def as_ss(row: Any, said: SsSocket) -> dict[str, tuple[object, object]]:
    """Return where a row and ss differ: ours and theirs, by what is compared."""
    pairs: dict[str, tuple[object, object]] = {
        name: (pytest.approx(row[ours] / scale, abs=0.0011), said.value(name))
        for name, (ours, scale) in SS_NUMBERS.items()
        if ours != "rttvar_us" or row["srtt_us"]  # without samples ss leaves out both
    }
    pairs["state"] = (int(row["state"]), SS_STATES.get(said.state))
    pairs["queues"] = ((int(row["recv_q"]), int(row["send_q"])), (said.recv_q, said.send_q))
    pairs["ports"] = ((int(row["lport"]), int(row["rport"])), (said.local_port, said.peer_port))
    pairs["identity"] = ((int(row["cookie"]), int(row["inode"])), (said.cookie, said.inode))
    pairs["cc"] = (row["cc"].decode(), said.congestion)
    pairs["limited"] = (bool(row["app_limited"]), "app_limited" in said.flags)
    if "ssthresh" in said.numbers:
        pairs["ssthresh"] = (int(row["ssthresh"]), said.value("ssthresh"))
    if row["state"] != State.LISTEN and row["min_rtt_us"] != UNKNOWN_U32:
        pairs["minrtt"] = (pytest.approx(row["min_rtt_us"] / 1000, abs=0.0011), said.value("minrtt"))
    pairs["wscale"] = (
        (row["wscale"] & 15, row["wscale"] >> 4),
        (said.value("snd_wscale"), said.value("rcv_wscale")),
    )
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
