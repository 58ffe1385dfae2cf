"""Servers of several processes, for the tests that ask whose a connection is.

Runs isolated (``-I``), standard library only. A line for each thing that happened: ``ready PORT``,
``accepted PID PEER-PORT``, ``handed PID PEER-PORT``, ``connected PID LOCAL-PORT``, ``finished N``.
The end of the input ends them all.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable

PR_SET_NAME, PR_SET_PDEATHSIG = 15, 1  # linux/prctl.h
IPPROTO_MPTCP = 262

libc = ctypes.CDLL(None)


def say(*words: object) -> None:
    """One line in one write, as several processes write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def listener(address: str, port: int = 0, *, protocol: int = 0, reuse: bool = False) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
    made.bind((address, port))
    made.listen(512)
    return made


def worker(number: int) -> bool:
    """Fork: true in the child, which has a name of its own and ends with its parent."""
    if os.fork():
        return False
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NAME, f"worker-{number}".encode(), 0, 0, 0)
    return True


def accept(door: socket.socket, count: int) -> list[socket.socket]:
    """So many connections; 0: until the end."""
    held: list[socket.socket] = []
    while not count or len(held) < count:
        connection, peer = door.accept()
        held.append(connection)
        say("accepted", os.getpid(), peer[1])
    return held


def prefork(args: argparse.Namespace) -> socket.socket:
    """Workers on one shared listener, which the parent keeps; each accepts ``--each``, so that all of them get some."""
    door = listener(args.address)
    for number in range(args.count):
        if worker(number):
            held = accept(door, args.each)
            signal.pause()
            held.clear()
    say("ready", door.getsockname()[1])
    return door


def reuseport(args: argparse.Namespace) -> None:
    """Workers with a listener each, all at one port: the kernel spreads the connections."""
    first = listener(args.address, reuse=True)
    port = first.getsockname()[1]
    reader, writer = os.pipe()
    for number in range(args.count):
        if worker(number):
            first.close()
            door = listener(args.address, port, reuse=True)
            os.write(writer, b".")
            accept(door, 0)
    got = 0
    while got < args.count:
        got += len(os.read(reader, args.count))
    first.close()
    say("ready", port)


def handover(args: argparse.Namespace) -> None:
    """Accepts, and passes the descriptor on to another process, as inetd-like servers do."""
    here, there = socket.socketpair()
    door = listener(args.address)
    if worker(0):
        door.close()
        held = []
        while True:
            data, ancillary, _, _ = there.recvmsg(16, socket.CMSG_SPACE(4))
            fds = array.array("i")
            fds.frombytes(ancillary[0][2][:4])
            held.append(fds[0])
            say("handed", os.getpid(), data.decode())
    say("ready", door.getsockname()[1])
    connection, peer = door.accept()
    here.sendmsg(
        [str(peer[1]).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))]
    )
    connection.close()


def pair(args: argparse.Namespace) -> None:
    """Both ends in this one process; ``--up`` for a namespace whose loopback is still down."""
    if args.up:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    libc.prctl(PR_SET_NAME, b"both-ends", 0, 0, 0)
    door = listener("127.0.0.1", protocol=args.protocol)
    say("ready", door.getsockname()[1])
    near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, args.protocol)
    near.connect(door.getsockname())
    far, _ = door.accept()
    near.sendall(b"hello")
    far.recv(5)
    say("connected", os.getpid(), near.getsockname()[1])
    sys.stdin.read()


def hang_up(args: argparse.Namespace) -> socket.socket:
    """Close whatever is accepted, at once, in several processes: the fast half of many short connections."""
    door = listener(args.address)
    for number in range(args.count):
        if worker(number):
            while True:
                door.accept()[0].close()
    say("ready", door.getsockname()[1])
    return door


def burst(args: argparse.Namespace) -> None:
    """``--each`` connections by each of ``--count`` processes: connect, wait for the other side's close, close.

    The peer closes first and keeps the TIME-WAIT, so that ports never run out here.
    """
    say("ready", args.port)
    sys.stdin.readline()
    children = []
    for _ in range(args.count):
        child = os.fork()
        if not child:
            for _ in range(args.each):
                near = socket.socket()
                near.connect((args.address, args.port))
                near.recv(1)
                near.close()
            os._exit(0)
        children.append(child)
    say("finished", sum(os.waitpid(child, 0)[1] != 0 for child in children))


def threaded(args: argparse.Namespace) -> None:
    """One connection by a thread with a name of its own."""

    def connect() -> None:
        libc.prctl(PR_SET_NAME, b"a-thread", 0, 0, 0)
        with socket.create_connection((args.address, args.port)) as near:
            say("ready", near.getsockname()[1])

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def flood(args: argparse.Namespace) -> None:
    """``--each`` SYNs from addresses of the same /24 that nobody has, so that nobody answers the SYN-ACKs."""
    say("ready", args.port)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    target = socket.inet_aton(args.address)
    for number in range(args.each):
        source = target[:3] + bytes([10 + number % 200])
        tcp = struct.pack("!HHIIBBHHH", 1024 + number % 60_000, args.port, number, 0, 5 << 4, 2, 64_000, 0, 0)
        pseudo = source + target + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0, source, target)
        raw.sendto(ip + tcp, (args.address, 0))
    say("finished", args.each)


def fan(args: argparse.Namespace) -> None:
    """A connection to each of ``--to`` (ADDRESS:PORT), all of this one process; 20 kB on each, 20 times a second."""
    libc.prctl(PR_SET_NAME, args.comm.encode(), 0, 0, 0)
    made = []
    for target in args.to:
        address, _, port = target.rpartition(":")
        near = socket.socket()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        near.connect((address, int(port)))
        near.setblocking(False)
        made.append(near)
    say("ready", 0)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        for near in made:
            with contextlib.suppress(BlockingIOError):
                near.send(bytes(20_000))


MODES: dict[str, Callable[[argparse.Namespace], object]] = {
    "prefork": prefork,
    "reuseport": reuseport,
    "handover": handover,
    "pair": pair,
    "hang-up": hang_up,
    "burst": burst,
    "threaded": threaded,
    "flood": flood,
    "fan": fan,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--each", type=int, default=3)
    parser.add_argument("--protocol", type=int, default=0)
    parser.add_argument("--up", action="store_true")
    parser.add_argument("--to", nargs="*", default=[])
    parser.add_argument("--comm", default="fan")
    args = parser.parse_args()
    libc.prctl(PR_SET_NAME, b"the-parent", 0, 0, 0)
    held = MODES[args.mode](args)
    sys.stdin.read()
    del held


if __name__ == "__main__":
    main()
