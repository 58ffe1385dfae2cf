"""Traffic for the tests: one program that is one listener or one client, told what to do by lines.

It prints a line for each thing that happened, so that a test can wait for it instead of sleeping:
``ready PORT``, ``accepted PORT``, ``connecting PORT``, ``connected PORT`` (local ports, but accepted: the peer's),
``sent N``, ``received N`` (bytes), ``done``, ``failed ENAME``. A connection that is held (``--then hold``, the default)
obeys lines on standard input: ``send N``, ``shutdown``, ``reset``, ``close``; the end of the input ends the program.
Standard library only: it runs isolated (``-I``), inside whatever namespace and cgroup it was started in.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import fcntl
import ipaddress
import select
import socket
import struct
import sys
import termios
import threading
import time

SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
TCP_USER_TIMEOUT = 18  # linux/tcp.h; Python has it on some hosts only
CHUNK = bytes(range(256)) * 256  # 64 KiB
MESSAGE = 2000
"""Bytes: on Ethernet one whole segment and one of 500 to 600 bytes."""

PR_SET_NAME = 15  # linux/prctl.h
printing = threading.Lock()


def say(*words: object) -> None:
    """One line, at once."""
    with printing:
        print(*words, flush=True)


def set_comm(name: str) -> None:
    """The name that /proc/PID/comm and the kernel's own get_current_comm show; 15 bytes are kept."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def new_socket(args: argparse.Namespace) -> socket.socket:
    """A socket with the congestion control that was asked for; what a listener has, its children inherit."""
    made = socket.socket(family_of(args.address), socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, args.congestion.encode())
    if args.pace:
        made.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, args.pace)
    if args.keepalive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, args.keepalive)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, args.keepalive)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, args.probes)
    if args.rcvbuf:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, args.rcvbuf)
    if args.user_timeout:
        made.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, args.user_timeout)
    return made


def send(connection: socket.socket, count: int) -> None:
    """Send exactly ``count`` bytes."""
    left = count
    while left > 0:
        left -= connection.send(CHUNK[:left])
    say("sent", count)


def send_endlessly(connection: socket.socket) -> None:
    """Send until a line, or the end, comes on standard input."""
    total = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        total += connection.send(CHUNK)
    say("sent", total)


def receive(connection: socket.socket, count: int) -> None:
    """Read ``count`` bytes, or to the end when that is 0."""
    total = 0
    while not count or total < count:
        data = connection.recv(min(len(CHUNK), count - total) if count else len(CHUNK))
        if not data:
            break
        total += len(data)
    say("received", total)


def read_slowly(connection: socket.socket, count: int, pause_s: float) -> None:
    """Read ``count`` bytes at most, and rest, to the end."""
    while connection.recv(count):
        time.sleep(pause_s)


def echo(connection: socket.socket) -> None:
    """Send back whatever comes, to the end."""
    while data := connection.recv(len(CHUNK)):
        connection.sendall(data)


def exchange(connection: socket.socket, count: int, pause_s: float) -> None:
    """One byte there, one byte back, ``count`` times."""
    for _ in range(count):
        connection.sendall(b"?")
        connection.recv(1)
        time.sleep(pause_s)


def messages(connection: socket.socket, count: int, pause_s: float) -> None:
    """Send ``count`` messages of two segments, each when the last one was acknowledged; 0: until the end."""
    sent = 0
    while not count or sent < count:
        connection.send(CHUNK[:MESSAGE])
        sent += 1
        while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0]:
            time.sleep(0.002)
        time.sleep(pause_s)
    say("sent", sent * MESSAGE)


def reset(connection: socket.socket) -> None:
    """Close it with a linger of no time at all, which sends RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def obey(connection: socket.socket, line: str) -> None:
    """Do what one line of standard input says."""
    command, *rest = line.split()
    if command == "send":
        send(connection, int(rest[0]))
    elif command == "shutdown":
        connection.shutdown(socket.SHUT_WR)
    elif command == "reset":
        reset(connection)
    elif command == "close":
        connection.close()
    else:
        raise SystemExit(f"unknown command: {line!r}")
    say("done")


def act(connection: socket.socket, args: argparse.Namespace) -> None:
    """What this mode does with a connection that stands, up to its own ``done``."""
    if args.mode in ("send", "serve-source"):
        send(connection, args.count)
    elif args.mode == "send-endless":
        send_endlessly(connection)
    elif args.mode == "messages":
        messages(connection, args.count, args.pause)
    elif args.mode in ("receive", "half-close-and-receive", "serve-sink"):
        if args.mode == "half-close-and-receive":
            connection.shutdown(socket.SHUT_WR)
        receive(connection, args.count)
    elif args.mode == "serve-slowly":
        read_slowly(connection, args.count, args.pause)
    elif args.mode == "serve-echo":
        echo(connection)
    elif args.mode == "exchange":
        exchange(connection, args.count, args.pause)
    if args.then == "close":
        connection.close()
    elif args.then == "reset":
        reset(connection)
    say("done")


def serve(args: argparse.Namespace) -> None:
    """Listen; but for listen-only accept and act, each connection in a thread of its own; obey for all of them."""
    listener = new_socket(args)
    listener.bind((args.address, args.port))
    listener.listen(args.backlog)
    say("ready", listener.getsockname()[1])
    held: list[socket.socket] = []
    if args.mode != "listen-only":
        threading.Thread(target=accept, args=(listener, held, args), daemon=True).start()
    for line in sys.stdin:
        for connection in held:
            obey(connection, line)
        held[:] = [connection for connection in held if connection.fileno() >= 0]


def accept(listener: socket.socket, held: list[socket.socket], args: argparse.Namespace) -> None:
    while True:
        connection, peer = listener.accept()
        if args.then == "hold":
            held.append(connection)
        say("accepted", peer[1])
        threading.Thread(target=attempt, args=(connection, args), daemon=True).start()


def attempt(connection: socket.socket, args: argparse.Namespace) -> None:
    """Act, and tell an error by its name."""
    try:
        act(connection, args)
    except OSError as error:
        say("failed", errno.errorcode.get(error.errno or 0, error))


def connect(args: argparse.Namespace) -> None:
    """One connection. Its port is told once the first SYN is out: the handshake may never end."""
    connection = new_socket(args)
    connection.bind((args.source, args.source_port))
    connection.setblocking(False)
    code = connection.connect_ex((args.address, args.port))
    say("connecting", connection.getsockname()[1])
    if code == errno.EINPROGRESS:
        select.select([], [connection], [])
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        say("failed", errno.errorcode.get(code, code))
        return
    connection.setblocking(True)
    say("connected", connection.getsockname()[1])
    attempt(connection, args)
    if args.then == "hold":
        for line in sys.stdin:
            obey(connection, line)


def short_connections(args: argparse.Namespace) -> None:
    """``count`` connections, one after the other, with one byte each way unless the peer sends none."""
    for _ in range(args.count):
        with new_socket(args) as connection:
            connection.connect((args.address, args.port))
            connection.sendall(b"?")
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
        time.sleep(args.pause)
    say("done")


MODES = {
    "serve-sink": serve,
    "serve-echo": serve,
    "serve-slowly": serve,
    "serve-source": serve,
    "listen-only": serve,
    "connect-only": connect,
    "send": connect,
    "send-endless": connect,
    "messages": connect,
    "receive": connect,
    "half-close-and-receive": connect,
    "exchange": connect,
    "short-connections": short_connections,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("count", type=int, nargs="?", default=0, help="bytes, exchanges, messages or connections")
    parser.add_argument("--address", default="0.0.0.0", help="where to listen, or whom to connect to")
    parser.add_argument("--port", type=int, default=0, help="0: any (listeners)")
    parser.add_argument("--source", help="local address of a client")
    parser.add_argument("--source-port", type=int, default=0)
    parser.add_argument("--backlog", type=int, default=128)
    parser.add_argument("--then", choices=("hold", "close", "reset"), default="hold")
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--pace", type=int, default=0, help="bytes a second at most")
    parser.add_argument("--keepalive", type=int, default=0, help="seconds between probes; 0: none")
    parser.add_argument("--probes", type=int, default=9, help="keepalive probes until it gives up")
    parser.add_argument("--user-timeout", type=int, default=0, help="TCP_USER_TIMEOUT in milliseconds; 0: none")
    parser.add_argument("--rcvbuf", type=int, default=0, help="SO_RCVBUF in bytes; 0: the kernel's own")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds after each exchange, message, connection or slow read"
    )
    parser.add_argument("--comm", help="name of the process")
    args = parser.parse_args(arguments)
    args.source = args.source or ("::" if family_of(args.address) == socket.AF_INET6 else "0.0.0.0")
    return args


def main() -> None:
    args = parse(sys.argv[1:])
    if args.comm:
        set_comm(args.comm)
    MODES[args.mode](args)


if __name__ == "__main__":
    main()
