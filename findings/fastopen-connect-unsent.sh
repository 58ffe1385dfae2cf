#!/bin/bash
# Surprise: with TCP_FASTOPEN_CONNECT and a cookie that is known, or with none needed as here, connect() answers 0 and
# sends nothing until the first write. Until then `ss` and /proc/net/tcp list a connection in SYN-SENT whose send queue
# is a random number, up to 2 GiB or below zero, another one for each socket. No SYN was sent, no timer runs, nothing is
# queued (SIOCOUTQ is 0), and getpeername() says "not connected". The first write makes an ordinary connection of it.
#
# Why: tcp_v4_connect() sets SYN-SENT and picks write_seq at random, then tcp_fastopen_defer_connect() returns before
# tcp_connect(), which is what sets snd_una. The queue is told as write_seq - snd_una, and snd_una is still 0
# (tcp_diag_get_info(), get_tcp4_sock()); SIOCOUTQ answers 0 in SYN-SENT. ss prints the 32 bits as a signed number.
#
# Seen on: Linux 6.18.44, iproute2 6.1.0-3 (Debian 12), Python 3.11.7. Output (the numbers are random):
#
#   connect() returned 0 for 8 of 8; getpeername() ENOTCONN for 8 of 8; SIOCOUTQ 0 for 8 of 8
#   ss: SYN-SENT 8 of 8, a timer 0 of 8, Send-Q -2099239816 491498689 1795538249 -509290961 ...
#   /proc/net/tcp tx_queue the same 32 bits for 8 of 8; TCP segments sent: 0
#   after one byte was written: ESTAB, Send-Q 0
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays in a network namespace of its
# own, whose tcp_fastopen is set.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

((EUID == 0)) || cannot "not root"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
(cd -- "$work" && apt-get download -q iproute2=6.1.0-3 && dpkg-deb -x ./iproute2_*.deb iproute2) >"$work/log" 2>&1 ||
    cannot "apt: $(tail -n 1 "$work/log")"
"$work/iproute2/bin/ss" -V >"$work/log" 2>&1 || cannot "ss: $(tail -n 1 "$work/log")"
unshare -n true 2>/dev/null || cannot "no network namespace can be made"

PATH=$work/iproute2/bin:$PATH timeout 60 unshare -n bash -c 'ip link set lo up && exec python3 -' <<'EOF'
import errno
import fcntl
import socket
import struct
import subprocess
import sys

TCP_FASTOPEN_CONNECT = 30
SIOCOUTQ = 0x5411
COUNT = 8
CLIENT, SERVER, CLIENT_WITHOUT_COOKIE = 1, 2, 4  # bits of net.ipv4.tcp_fastopen


def ss(port):
    """Returns the fields of each line by the local port: state, Recv-Q, Send-Q, local, peer and the timer."""
    text = subprocess.run(["ss", "-Htno", "dport", "=", f":{port}"], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[3].rsplit(":", 1)[1]): line.split() for line in text.splitlines()}


def tx_queues():
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file][1:]
    return {int(row[1].split(":")[1], 16): int(row[4].split(":")[0], 16) for row in rows}


def segments_sent():
    with open("/proc/net/snmp") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("OutSegs")])


try:
    with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as file:
        file.write(str(CLIENT | SERVER | CLIENT_WITHOUT_COOKIE))
except OSError as error:
    print("cannot be tried here: tcp_fastopen:", error)
    sys.exit(2)
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
before = segments_sent()
clients, returned, unconnected, empty = [], 0, 0, 0
for _ in range(COUNT):
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    returned += client.connect_ex(("127.0.0.1", port)) == 0
    try:
        client.getpeername()
    except OSError as error:
        unconnected += error.errno == errno.ENOTCONN
    empty += struct.unpack("i", fcntl.ioctl(client, SIOCOUTQ, bytes(4))) == (0,)
    clients.append(client)
ports = [client.getsockname()[1] for client in clients]
lines, queues = ss(port), tx_queues()
sent = segments_sent() - before
send_q = [int(lines[local][2]) for local in ports]
waiting = sum(lines[local][0] == "SYN-SENT" for local in ports)
timers = sum("timer:" in " ".join(lines[local]) for local in ports)
same = sum(queues[local] == value % 2**32 for local, value in zip(ports, send_q))
print(
    f"connect() returned 0 for {returned} of {COUNT}; getpeername() ENOTCONN for {unconnected} of {COUNT}; "
    f"SIOCOUTQ 0 for {empty} of {COUNT}"
)
print(f"ss: SYN-SENT {waiting} of {COUNT}, a timer {timers} of {COUNT}, Send-Q", *send_q)
print(f"/proc/net/tcp tx_queue the same 32 bits for {same} of {COUNT}; TCP segments sent: {sent}")
clients[0].send(b"x")
accepted = server.accept()[0]
received = accepted.recv(1)
state, _, after = ss(port)[ports[0]][:3]
print(f"after one byte was written: {state}, Send-Q {after}")
stated = (
    returned == unconnected == empty == waiting == same == COUNT
    and timers == sent == 0
    and sum(abs(value) > 2**20 for value in send_q) >= COUNT - 2  # a random number is smaller once in 2,048 times
    and len(set(send_q)) > 1
    and received == b"x"
    and state == "ESTAB"
    and after in ("0", "1")
)
print("as stated" if stated else "not as stated")
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
