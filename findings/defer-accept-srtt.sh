#!/bin/bash
# Surprise: with TCP_DEFER_ACCEPT on the listening socket, the time that the client takes before its first byte counts
# as the server's first round trip. A client on the loopback interface that waits two seconds gives the server an srtt and
# a min_rtt of two seconds and a retransmission timeout of six; the client's own end reads microseconds. No packet was
# lost or late.
#
# Why: the client's bare ACK of the SYN-ACK is dropped while the server waits for data (tcp_check_req(), where
# rskq_defer_accept is looked at), so the ACK that makes the connection is the one on the first data segment, and the
# first RTT sample is that time minus the time of the SYN-ACK (snt_synack, tcp_synack_rtt_meas()). From one sample the
# timeout is srtt + 4 * (srtt / 2), three times the sample (RFC 6298).
#
# Seen on: Linux 6.18.44, pyroute2 0.9.7, Python 3.11.7. Output:
#
#   TCP_DEFER_ACCEPT off: server srtt 0.000 s, min_rtt 0.000 s, RTO 0.204 s, retransmits 0; client srtt 0.000 s
#   TCP_DEFER_ACCEPT on: server srtt 2.005 s, min_rtt 2.005 s, RTO 6.016 s, retransmits 0; client srtt 0.000 s
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays in a network namespace of its own.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

((EUID == 0)) || cannot "not root"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
{ python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet pyroute2==0.9.7; } >"$work/log" 2>&1 ||
    cannot "pip: $(tail -n 1 "$work/log")"
unshare -n true 2>/dev/null || cannot "no network namespace can be made"

timeout 60 unshare -n "$work/venv/bin/python" - <<'EOF'
import socket
import sys
import time

from pyroute2 import DiagSocket, IPRoute

ESTABLISHED = 1 << 1
INET_DIAG_INFO = 1 << 1
THINKING = 2.0  # seconds: this is what is measured


def measure(defer):
    server = socket.create_server(("127.0.0.1", 0))
    if defer:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
    port = server.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    time.sleep(THINKING)
    client.send(b"x")
    accepted = server.accept()[0]
    accepted.recv(1)
    with DiagSocket() as diag:
        rows = diag.get_sock_stats(family=socket.AF_INET, states=ESTABLISHED, extensions=INET_DIAG_INFO)
        infos = {row["idiag_sport"]: row.get_attr("INET_DIAG_INFO") for row in rows}
    ours, theirs = infos[port], infos[client.getsockname()[1]]
    for end in (client, accepted, server):
        end.close()
    srtt, least, rto = (ours[name] / 1e6 for name in ("tcpi_rtt", "tcpi_min_rtt", "tcpi_rto"))
    print(
        f"TCP_DEFER_ACCEPT {'on' if defer else 'off'}: server srtt {srtt:.3f} s, min_rtt {least:.3f} s, RTO {rto:.3f} s, "
        f"retransmits {ours['tcpi_total_retrans']}; client srtt {theirs['tcpi_rtt'] / 1e6:.3f} s"
    )
    return srtt, least, rto, ours["tcpi_total_retrans"], theirs["tcpi_rtt"] / 1e6


with IPRoute() as route:
    route.link("set", index=1, state="up")
plain = measure(False)
srtt, least, rto, retransmits, client_srtt = measure(True)
stated = (
    plain[0] < 0.2
    and 0.95 * THINKING < srtt < THINKING + 2
    and abs(least - srtt) < 0.01
    and 2.5 * srtt < rto < 3.5 * srtt
    and retransmits == 0
    and client_srtt < 0.2
)
print("as stated" if stated else "not as stated")
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
