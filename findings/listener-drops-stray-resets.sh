#!/bin/bash
# Surprise: the drops of a listener that ss shows (skmem, d) grow although nobody was turned away: by one for each reset
# that belongs to no connection, and for each handshake that its client breaks off by a reset, as a port scan does. An
# ACK that belongs to no connection, which is answered by a reset, counts nothing. In none of these cases do ListenDrops
# and ListenOverflows of /proc/net/netstat grow, while a full accept queue adds to all three: only both together tell
# connections that were lost from noise.
#
# Why: tcp_rcv_state_process() discards a segment with RST in LISTEN by tcp_drop_reason(), which adds to sk_drops. A reset
# that ends a pending handshake is discarded in tcp_v4_rcv() (discard_and_relse), which adds to sk_drops of the listener
# that the request belongs to. A stray ACK takes another way: tcp_rcv_state_process() returns a reason for which
# tcp_v4_do_rcv() sends a reset, and the segment is freed without being counted. A full accept queue is counted in
# tcp_conn_request(), by tcp_listendrop(): sk_drops and ListenDrops.
#
# Seen on: Linux 6.18.44, iproute2 6.1.0-3 (Debian 12), Python 3.11.7. Output:
#
#   5 stray RST: drops +5, ListenDrops +0, ListenOverflows +0
#   5 stray ACK: drops +0, ListenDrops +0, ListenOverflows +0
#   5 SYN, each answered and then reset: drops +5, ListenDrops +0, ListenOverflows +0
#   5 connects at a full accept queue: drops +5, ListenDrops +5, ListenOverflows +5
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
HERE = "127.0.0.1"
FIN, SYN, RST, ACK = 1, 2, 4, 16
TIMES = 5


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(source, target, flags):
    """A TCP header without data, its checksum with that of the pseudo header."""
    ends = socket.inet_aton(HERE) * 2

    def packed(check):
        return struct.pack("!HHIIBBHHH", source, target, 1000, 0, 5 << 4, flags, 1024, check, 0)

    return packed(checksum(ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20) + packed(0)))


def counters():
    with open("/proc/net/netstat") as file:
        lines = file.read().splitlines()
    names, values = next((a.split(), b.split()) for a, b in zip(lines, lines[1:]) if a.startswith("TcpExt") and b.startswith("TcpExt"))
    return {name: int(values[names.index(name)]) for name in ("ListenDrops", "ListenOverflows")}


def drops(port):
    told = subprocess.run([os.environ["SS"], "-tlnmH", f"sport = {port}"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"skmem:\(.*\bd(\d+)\)", told)[1])


def listener(backlog):
    made = socket.socket()
    made.bind((HERE, 0))
    made.listen(backlog)
    return made


class Trial:
    """Counts what some segments add."""

    def __init__(self, port):
        self.port, self.before = port, self.now(port)

    @staticmethod
    def now(port):
        return {"drops": drops(port)} | counters()

    def grown(self, awaited):
        """What was added, once it is what is awaited, or after a second."""
        for _ in range(100):
            found = {name: value - self.before[name] for name, value in self.now(self.port).items()}
            if found == awaited:
                break
            time.sleep(0.01)
        return found


def told(what, trial, drop, listen_drops, overflows):
    awaited = {"drops": drop, "ListenDrops": listen_drops, "ListenOverflows": overflows}
    found = trial.grown(awaited)
    print(f"{what}: " + ", ".join(f"{name} +{value}" for name, value in found.items()))
    return found == awaited


with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
as_stated = []
for what, flags, drop in (("stray RST", (RST,), TIMES), ("stray ACK", (ACK,), 0), ("SYN, each answered and then reset", (SYN,), TIMES)):
    with listener(8) as door:
        port = door.getsockname()[1]
        trial = Trial(port)
        for number in range(TIMES):
            for one in flags:  # what answers a SYN here is reset by the kernel, which knows of no such attempt
                raw.sendto(segment(20000 + number, port, one), (HERE, 0))
        as_stated.append(told(f"{TIMES} {what}", trial, drop, 0, 0))
with listener(0) as door:
    port = door.getsockname()[1]
    held = socket.create_connection((HERE, port))
    trial, waiting = Trial(port), []
    for _ in range(TIMES):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex((HERE, port))
    as_stated.append(told(f"{TIMES} connects at a full accept queue", trial, TIMES, TIMES, TIMES))
    for one in (held, *waiting):
        one.close()
raw.close()
print("as stated" if all(as_stated) else "not as stated")
sys.exit(not all(as_stated))
EOF
