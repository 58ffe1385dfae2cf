#!/bin/bash
# Surprise: while the kernel answers with SYN cookies, the server's round-trip time on the loopback interface is up to
# 63 ms, min_rtt included, although nothing waits anywhere: the time says nothing of the network. It is a whole number
# of milliseconds, and connections made in the same millisecond have the same one. Without cookies it is some
# microseconds. The segment size shrinks as well (1448 instead of 32768).
#
# Why: with a cookie the server keeps no request, so the options of the SYN (window scale, SACK, ECN) go into the six
# low bits of the timestamp in its SYN-ACK, which is then moved back by up to 63 ms so as not to lie in the future
# (cookie_init_timestamp(), TSBITS, net/ipv4/syncookies.c). No time is kept with a request either, so the first RTT
# sample is "now minus the timestamp that the client echoes" (tcp_ack_update_rtt()). The MSS is the next lower one of
# four in msstab[].
#
# Seen on: Linux 6.18.44, pyroute2 0.9.7, Python 3.11.7. Output:
#
#   tcp_syncookies=0: 64 connections, srtt min 0.005 ms, median 0.008 ms, max 0.044 ms; highest min_rtt 0.044 ms; MSS 32768
#   tcp_syncookies=2: 64 connections, srtt min 1.000 ms, median 31.500 ms, max 62.000 ms; highest min_rtt 62.000 ms; MSS 1448
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays in a network namespace of its
# own, whose tcp_syncookies is set.
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
import statistics
import sys
import time

from pyroute2 import DiagSocket, IPRoute

ESTABLISHED = 1 << 1
INET_DIAG_INFO = 1 << 1
COUNT = 64
SWITCH = "/proc/sys/net/ipv4/tcp_syncookies"


def measure(cookies):
    with open(SWITCH, "w") as file:
        file.write(str(cookies))
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    pairs = []
    for _ in range(COUNT):
        # 3 has no divisor in common with 64: every value of the clock's six low bits comes up.
        time.sleep(0.003)
        client = socket.create_connection(("127.0.0.1", port))
        pairs.append((client, server.accept()[0]))
    with DiagSocket() as diag:
        rows = diag.get_sock_stats(family=socket.AF_INET, states=ESTABLISHED, extensions=INET_DIAG_INFO)
        infos = [row.get_attr("INET_DIAG_INFO") for row in rows if row["idiag_sport"] == port]
    for pair in pairs:
        for end in pair:
            end.close()
    server.close()
    srtt = [info["tcpi_rtt"] for info in infos]
    least = [info["tcpi_min_rtt"] for info in infos]
    mss = statistics.mode(info["tcpi_snd_mss"] for info in infos)
    print(
        f"tcp_syncookies={cookies}: {len(infos)} connections, srtt min {min(srtt) / 1000:.3f} ms, "
        f"median {statistics.median(srtt) / 1000:.3f} ms, max {max(srtt) / 1000:.3f} ms; "
        f"highest min_rtt {max(least) / 1000:.3f} ms; MSS {mss}"
    )
    return srtt, least, mss


with IPRoute() as route:
    route.link("set", index=1, state="up")
try:
    open(SWITCH).close()
except FileNotFoundError:
    print("cannot be tried here: a kernel without SYN cookies")
    sys.exit(2)
plain, plain_least, plain_mss = measure(0)
cookie, cookie_least, cookie_mss = measure(2)
stated = (
    len(plain) == len(cookie) == COUNT
    and statistics.median(plain) < 1000
    and 5_000 < statistics.median(cookie) < 60_000
    and max(cookie) > 40_000
    and min(cookie) < 24_000
    and sum(value % 1000 == 0 for value in cookie) > COUNT // 2
    and statistics.median(cookie_least) > 5_000
    and cookie_mss < plain_mss
)
print("as stated" if stated else "not as stated")
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
