#!/bin/bash
# Surprise: the time since data was last received (ss: lastrcv, tcpi_last_data_recv) does not tell when the peer closed. A
# FIN that carries no data leaves it as it is, and on a connection that never got data it runs since the handshake. So of
# an idle connection whose peer closes just now, lastrcv is as old as the idleness. What a FIN does set is the time
# since the last acknowledgement (ss: lastack, tcpi_last_ack_recv): in CLOSE-WAIT that one is the age of the close, as
# long as nothing is sent that the peer acknowledges. The FIN counts in bytes_received, as one byte.
#
# Why: lrcvtime is set by tcp_event_data_recv(), which tcp_data_queue() reaches through tcp_queue_rcv() only for segments
# with payload; an empty FIN goes to tcp_fin() without it. rcv_tstamp is set by tcp_ack(), which each segment with the
# ACK bit passes, a FIN too. tcp_fin() advances rcv_nxt, from which bytes_received is counted.
#
# Seen on: Linux 6.18.44, iproute2 6.1.0-3 (Debian 12), Python 3.11.7. Output:
#
#   after 1 byte, 2 s of rest and a FIN: CLOSE-WAIT, lastrcv that of the byte, lastack that of the FIN, 2 bytes received
#   after the handshake, 2 s of rest and a FIN: CLOSE-WAIT, lastrcv that of the handshake, lastack that of the FIN, 1 byte received
#   after a byte with the FIN: CLOSE-WAIT, lastrcv that of the FIN, lastack that of the FIN, 2 bytes received
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays on the loopback device of a
# network namespace of its own.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

((EUID == 0)) || cannot "not root"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
(cd -- "$work" && apt-get download -q iproute2=6.1.0-3 && dpkg-deb -x ./*.deb iproute2) >"$work/log" 2>&1 ||
    cannot "apt: $(tail -n 1 "$work/log")"
export SS=$work/iproute2/bin/ss
"$SS" -V >"$work/log" 2>&1 || cannot "ss: $(tail -n 1 "$work/log")"
unshare -n true 2>"$work/log" || cannot "$(tail -n 1 "$work/log")"

timeout 120 unshare -n python3 - <<'EOF'
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
import time

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
REST_S = 2.0
STATED = [
    "after 1 byte, 2 s of rest and a FIN: CLOSE-WAIT, lastrcv that of the byte, lastack that of the FIN, 2 bytes received",
    "after the handshake, 2 s of rest and a FIN: CLOSE-WAIT, lastrcv that of the handshake, lastack that of the FIN, "
    "1 byte received",
    "after a byte with the FIN: CLOSE-WAIT, lastrcv that of the FIN, lastack that of the FIN, 2 bytes received",
]


def told(port):
    """State, lastrcv and lastack in ms, and bytes received, of the socket that was accepted from this port."""
    text = subprocess.run(
        [os.environ["SS"], "-tinH", f"dport = {port}"], capture_output=True, text=True, check=True
    ).stdout
    figure = {name: int(value) for name, value in re.findall(r"(lastrcv|lastack|bytes_received):(\d+)", text)}
    return text.split()[0], figure.get("lastrcv", 0), figure.get("lastack", 0), figure["bytes_received"]


def that_of(ms, before):
    return "FIN" if ms < 1000 * REST_S / 2 else before


def trial(listener, what, before, data, with_fin):
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    client.sendall(data)
    if data:
        accepted.recv(1, socket.MSG_PEEK)
    time.sleep(REST_S)  # the rest is what is looked for: nothing is waited for
    if with_fin:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # the byte waits for the FIN
        client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 5
    while told(client.getsockname()[1])[0] != "CLOSE-WAIT" and time.monotonic() < deadline:
        time.sleep(0.01)
    state, received, acked, count = told(client.getsockname()[1])
    client.close()
    accepted.close()
    times = f"lastrcv that of the {that_of(received, before)}, lastack that of the {that_of(acked, before)}"
    return f"after {what}: {state}, {times}, {count} byte{'' if count == 1 else 's'} received"


with socket.socket() as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
with socket.create_server(("127.0.0.1", 0)) as listener:
    seen = [
        trial(listener, "1 byte, 2 s of rest and a FIN", "byte", b"x", False),
        trial(listener, "the handshake, 2 s of rest and a FIN", "handshake", b"", False),
        trial(listener, "a byte with the FIN", "handshake", b"", True),
    ]
print(*seen, sep="\n")
print("as stated" if seen == STATED else "NOT as stated")
sys.exit(seen != STATED)
EOF
