#!/bin/bash
# Surprise: a non-blocking connect() that a rule of the same host rejects by ICMP host-unreachable has not failed, whatever
# the socket says. SO_ERROR answers EHOSTUNREACH once, then 0; the socket stays in SYN-SENT and the kernel goes on
# sending SYNs: with the rule gone, this very socket becomes established at the next one. IPv4 and IPv6 differ: over
# IPv4 poll() gives POLLERR at once, and goes on giving it on the established connection although SO_ERROR is 0; over
# IPv6 it gives nothing until the connection stands. If the next SYN is rejected as well, the socket is closed.
#
# Why: on one host the ICMP message comes back while connect() still holds the socket, so tcp_v4_err() and tcp_v6_err()
# take the branch of sock_owned_by_user(): sk_err_soft is set, the socket is not closed. SO_ERROR reads and clears
# sk_err, or if that is 0, sk_err_soft. Before that branch tcp_v4_err() puts the message into the error queue, IP_RECVERR
# or not (ip_icmp_error(); commit 45af29ca761c, "tcp: allow traceroute -Mtcp for unpriv users"), and tcp_poll() gives
# POLLERR while that queue is not empty; over IPv6 ipv6_icmp_error() does nothing without IPV6_RECVERR.
# recvmsg(MSG_ERRQUEUE) empties the queue and ends the POLLERR.
#
# Seen on: Linux 6.18.44, nftables 1.0.6-2+deb12u2 (Debian 12), Python 3.11.7. Output:
#
#   IPv4 rejected: connect EINPROGRESS, poll POLLERR, SO_ERROR EHOSTUNREACH then 0, state SYN_SENT
#   IPv4 with the rule gone: state ESTABLISHED, poll POLLOUT|POLLERR, SO_ERROR 0; error queue read: yes, then poll POLLOUT
#   IPv6 rejected: connect EINPROGRESS, poll nothing, SO_ERROR EHOSTUNREACH then 0, state SYN_SENT
#   IPv6 with the rule gone: state ESTABLISHED, poll POLLOUT, SO_ERROR 0; error queue read: no, then poll POLLOUT
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays in a network namespace of its
# own, where the rules are as well.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

((EUID == 0)) || cannot "not root"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
(cd -- "$work" && apt-get download -q nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 &&
    for package in ./*.deb; do dpkg-deb -x "$package" nftables || exit; done) >"$work/log" 2>&1 ||
    cannot "apt: $(tail -n 1 "$work/log")"
export LD_LIBRARY_PATH=$work/nftables/usr/lib/$(uname -m)-linux-gnu
export NFT=$work/nftables/usr/sbin/nft
"$NFT" --version >"$work/log" 2>&1 || cannot "nft: $(tail -n 1 "$work/log")"
unshare -n "$NFT" add table inet trial >"$work/log" 2>&1 || cannot "nft in a network namespace: $(tail -n 1 "$work/log")"

timeout 120 unshare -n python3 - <<'EOF'
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
STATES = {1: "ESTABLISHED", 2: "SYN_SENT", 7: "CLOSE"}
BITS = ((select.POLLIN, "POLLIN"), (select.POLLOUT, "POLLOUT"), (select.POLLERR, "POLLERR"), (select.POLLHUP, "POLLHUP"))


def nft(rules):
    subprocess.run([os.environ["NFT"], "-f", "-"], input=rules, text=True, check=True)


def polled(sock, milliseconds=0, events=select.POLLIN | select.POLLOUT):
    poll = select.poll()
    poll.register(sock, events)
    bits = sum(event for _, event in poll.poll(milliseconds))
    return "|".join(name for bit, name in BITS if bits & bit) or "nothing"


def so_error(sock):
    value = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[value] if value else "0"


def state(sock):
    number = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return STATES.get(number, str(number))


def trial(label, family, address, message):
    server = socket.create_server((address, 0), family=family)
    server.settimeout(30)  # seconds; the next SYN is due within one or two
    port = server.getsockname()[1]
    nft(f"""table inet trial {{
        chain out {{
            type filter hook output priority 0
            tcp dport {port} tcp flags & (syn | ack) == syn reject with {message}
        }}
    }}
    """)
    client = socket.socket(family)
    client.setblocking(False)
    start = time.monotonic()
    code = errno.errorcode.get(client.connect_ex((address, port)), "0")
    seen = [code, polled(client), so_error(client), so_error(client), state(client)]
    print("{} rejected: connect {}, poll {}, SO_ERROR {} then {}, state {}".format(label, *seen))
    nft("delete table inet trial\n")
    if time.monotonic() - start > 0.9:  # a second SYN is due after one: rejected by the timer, it would end the connection
        print("cannot be tried here: too slow, another SYN may have been rejected")
        sys.exit(2)
    try:
        accepted = server.accept()[0]
    except TimeoutError:
        print(label, "with the rule gone: no connection came")
        return seen
    later = [state(client), polled(client), so_error(client)]
    try:
        client.recvmsg(1, 512, socket.MSG_ERRQUEUE)
        later.append("yes")
    except BlockingIOError:
        later.append("no")
    later.append(polled(client))
    print("{} with the rule gone: state {}, poll {}, SO_ERROR {}; error queue read: {}, then poll {}".format(label, *later))
    for sock in (client, accepted, server):
        sock.close()
    return seen + later


with socket.socket() as sock:
    fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
four = trial("IPv4", socket.AF_INET, "127.0.0.1", "icmp type host-unreachable")
try:
    six = trial("IPv6", socket.AF_INET6, "::1", "icmpv6 type addr-unreachable")
except OSError as error:
    print("cannot be tried here: IPv6:", error)
    sys.exit(2)
common = ["EHOSTUNREACH", "0", "SYN_SENT", "ESTABLISHED"]
stated = four == ["EINPROGRESS", "POLLERR", *common, "POLLOUT|POLLERR", "0", "yes", "POLLOUT"] and six == [
    "EINPROGRESS",
    "nothing",
    *common,
    "POLLOUT",
    "0",
    "no",
    "POLLOUT",
]
print("as stated" if stated else "not as stated")
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
