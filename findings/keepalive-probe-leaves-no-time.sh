#!/bin/bash
# Surprise: the end that is asked by keepalive probes shows nothing of them in any of the times that the kernel tells. A
# probe comes each second and is answered, and yet lastsnd, lastrcv and lastack of ss (tcpi_last_data_sent,
# tcpi_last_data_recv, tcpi_last_ack_recv) go on growing since the last data: a connection whose peer is checked to be
# alive looks as dead as one whose peer is gone. Only segs_in and segs_out tell. At the end that probes, lastack is young.
#
# Why: a probe has an old sequence number (tcp_xmit_probe_skb() with snd_una - 1). tcp_validate_incoming() answers such a
# segment by tcp_send_dupack() and drops it before tcp_ack(), which sets rcv_tstamp. The answer has no data, so that
# tcp_event_data_sent() does not set lsndtime either. The end that probes gets an acceptable acknowledgement.
#
# Seen on: Linux 6.18.44, iproute2 6.1.0-3 (Debian 12), Python 3.11.7. Output:
#
#   asked, 4 probes later: 4 segments in, 4 out; lastsnd, lastrcv, lastack grew by the whole time
#   asking, 4 probes later: 4 segments in, 4 out; lastsnd, lastrcv grew by the whole time; lastack did not
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
PROBES, PATIENCE_S = 4, 30.0
TIMES = ("lastsnd", "lastrcv", "lastack")
STATED = [
    "asked, 4 probes later: 4 segments in, 4 out; lastsnd, lastrcv, lastack grew by the whole time",
    "asking, 4 probes later: 4 segments in, 4 out; lastsnd, lastrcv grew by the whole time; lastack did not",
]


def told(port):
    """Counts of segments, and times in ms, of the socket with this local port."""
    text = subprocess.run(
        [os.environ["SS"], "-tinH", "state", "established", f"sport = {port}"], capture_output=True, text=True, check=True
    ).stdout
    found = {name: int(value) for name, value in re.findall(r"(?<!_)(segs_in|segs_out|lastsnd|lastrcv|lastack):(\d+)", text)}
    return dict.fromkeys(("segs_in", "segs_out", *TIMES), 0) | found


def said(name, before, now, passed_ms):
    """What has grown by the whole time that has passed, but for the time that the two looks took."""
    grew = [each for each in TIMES if now[each] - before[each] > passed_ms - 500]
    rest = [each for each in TIMES if each not in grew]
    return (
        f"{name}, {PROBES} probes later: {now['segs_in'] - before['segs_in']} segments in, "
        f"{now['segs_out'] - before['segs_out']} out; {', '.join(grew)} grew by the whole time"
        + (f"; {', '.join(rest)} did not" if rest else "")
    )


with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP).ljust(40, b"\0"))
door = socket.create_server(("127.0.0.1", 0))
asking = socket.create_connection(door.getsockname())
asked, _ = door.accept()
for here, there in ((asking, asked), (asked, asking)):
    here.sendall(b"x")
    assert there.recv(1) == b"x"
time.sleep(0.5)  # a delayed acknowledgement is sent by then
ports = {"asked": asked.getsockname()[1], "asking": asking.getsockname()[1]}
asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
began = time.monotonic()
before = {name: told(port) for name, port in ports.items()}
asking.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
while told(ports["asked"])["segs_in"] < before["asked"]["segs_in"] + PROBES:
    if time.monotonic() - began > PATIENCE_S:
        sys.exit("no probes came")
    time.sleep(0.05)
passed_ms = 1000 * (time.monotonic() - began)
lines = [said(name, before[name], told(port), passed_ms) for name, port in ports.items()]
print(*lines, sep="\n")
if lines != STATED:
    sys.exit("not as stated")
print("as stated")
EOF
