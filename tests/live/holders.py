"""Programs whose descriptors are in unusual places, for the tests that ask whose a socket is.

Runs isolated (``-I``), standard library only. Prints ``ready PORT``, then perhaps ``pids`` of processes that matter,
``port`` of the near end of a connection, ``names`` of paths. The end of the input ends it all.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

PR_SET_NAME, PR_SET_PDEATHSIG = 15, 1  # linux/prctl.h
CLONE_FILES, CLONE_NEWNET = 0x400, 0x40000000
IO_URING_SETUP, IO_URING_REGISTER, REGISTER_FILES = 425, 427, 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)
kept: list[object] = []


def say(*words: object) -> None:
    print(*words, flush=True)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def name(comm: str) -> None:
    libc.prctl(PR_SET_NAME, comm.encode(), 0, 0, 0)


def listener(address: str, port: int = 0, *, reuse: bool = False, v6only: bool = False) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    made.bind((address, port))
    made.listen(64)
    kept.append(made)
    return made


def to(door: socket.socket) -> socket.socket:
    """A connection to a listener of this process."""
    made = socket.create_connection(door.getsockname()[:2])
    kept.append(made)
    return made


def child(comm: str) -> int:
    """Fork: 0 in the child, which waits for its end with that of its parent."""
    pid = os.fork()
    if not pid:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        name(comm)
    return pid


def executed(words: list[str]) -> int:
    """A program that gets all descriptors, and ends with this one."""
    bound = ["setpriv", "--pdeathsig", "KILL", "--", *words]
    started = subprocess.Popen(bound, close_fds=False, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    kept.append(started)
    return started.pid


def leaked(args: argparse.Namespace) -> None:
    """A listener, a dialled and an accepted connection, all of which leak into a program that is started later."""
    door = listener(args.address)
    near = to(door)
    far, _ = door.accept()
    for one in (door, near, far):
        os.set_inheritable(one.fileno(), True)
    kept.append(far)
    words = ["sleep", "600"] if args.comm == "sleep" else [sys.executable, "-ISc", "input()"]
    say("ready", door.getsockname()[1])
    say("pids", executed(words))
    say("port", near.getsockname()[1])


def forked(args: argparse.Namespace) -> None:
    """A server that forks for a connection and keeps its own copy, with a helper that was executed by the child."""
    door = listener(args.address)
    say("ready", door.getsockname()[1])
    near = to(door)
    far, _ = door.accept()
    kept.append(far)
    os.set_inheritable(far.fileno(), True)
    if not (pid := child("the-worker")):
        near.close()
        door.close()
        executed(["sleep", "600"])
        signal.pause()
    say("pids", pid)
    say("port", near.getsockname()[1])


def several(args: argparse.Namespace) -> None:
    """A process for each of ``--to`` (ADDRESS, with ``!`` behind it for IPV6_V6ONLY) listens on one port, none accepts.

    Those of one address are a group.
    """
    first = listener(args.to[0].rstrip("!"), args.port, reuse=True, v6only=args.to[0].endswith("!"))
    port = first.getsockname()[1]
    first.close()
    pids = []
    reader, writer = os.pipe()
    for number, address in enumerate(args.to):
        if not (pid := child(f"door-{number}")):
            listener(address.rstrip("!"), port, reuse=True, v6only=address.endswith("!"))
            os.write(writer, b".")
            signal.pause()
        pids.append(pid)
        os.read(reader, 1)
    say("ready", port)
    say("pids", *pids)


def thread_files(args: argparse.Namespace) -> None:
    """A connection of a thread that has its own files."""
    door = listener(args.address)
    done = threading.Event()

    def own() -> None:
        checked(libc.unshare(CLONE_FILES))
        name("a-thread")
        near = to(door)
        say("ready", door.getsockname()[1])
        say("port", near.getsockname()[1])
        done.wait()

    threading.Thread(target=own, daemon=True).start()
    kept.append(door.accept())


def ring(args: argparse.Namespace) -> None:
    """A connection that a ring of io_uring holds, and no descriptor."""
    door = listener(args.address)
    near = to(door)
    kept.append(door.accept())
    parameters = (ctypes.c_char * 120)()
    made = checked(libc.syscall(IO_URING_SETUP, 4, ctypes.byref(parameters)))
    files = (ctypes.c_int * 1)(near.fileno())
    checked(libc.syscall(IO_URING_REGISTER, made, REGISTER_FILES, ctypes.byref(files), 1))
    port = near.getsockname()[1]
    near.close()
    say("ready", door.getsockname()[1])
    say("port", port)


def set_up() -> None:
    """Bring lo of this thread's namespace up."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def thread_namespace(args: argparse.Namespace) -> None:
    """A listener in a network namespace of a thread; with ``--to`` a file on which the namespace is mounted instead."""
    done = threading.Event()

    def own() -> None:
        checked(libc.unshare(CLONE_NEWNET))
        set_up()
        door = listener("127.0.0.1")
        to(door)
        path = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        inode = os.stat(path).st_ino
        if args.to:
            with open(args.to[0], "w"):
                pass
            subprocess.run(["mount", "--bind", path, args.to[0]], check=True)
        say("ready", door.getsockname()[1])
        say("netns", inode)
        if not args.to:
            done.wait()

    threading.Thread(target=own, daemon=True).start()


def orphan(args: argparse.Namespace) -> None:
    """Connect to ``--port``, and on a line of input shut it with data that nobody takes: FIN-WAIT-1 for long."""
    near = socket.create_connection((args.address, args.port))
    say("ready", near.getsockname()[1])
    sys.stdin.readline()
    near.setblocking(False)
    try:
        while True:
            near.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    near.close()
    say("closed")


def once(args: argparse.Namespace) -> None:
    """Connect to ``--port``, and end on a line of input."""
    near = socket.create_connection((args.address, args.port))
    say("ready", near.getsockname()[1])
    sys.stdin.readline()
    os._exit(0)


MODES = {
    "leaked": leaked,
    "forked": forked,
    "several": several,
    "thread-files": thread_files,
    "ring": ring,
    "thread-namespace": thread_namespace,
    "orphan": orphan,
    "once": once,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--to", nargs="*", default=[])
    parser.add_argument("--comm", default="the-server")
    args = parser.parse_args()
    name("the-server")
    MODES[args.mode](args)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
