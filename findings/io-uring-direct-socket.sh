#!/bin/bash
# Surprise: a connected TCP socket in use need have no file descriptor in any process. One that io_uring made as a "direct
# descriptor" is in no /proc/PID/fd and no /proc/PID/task/TID/fd; `ss -p` and psutil.net_connections() name no process
# for it, even as root. The kernel does tell: /proc/PID/fdinfo/RING, RING being the ring's descriptor, lists it under
# UserFiles as "INDEX: socket:[INODE]".
#
# Why: IORING_OP_SOCKET with a file index puts the file into the ring's own table and installs no descriptor
# (io_socket(), io_fixed_fd_install(), io_uring/net.c and filetable.c); fdinfo is written by io_uring_show_fdinfo().
# ss and psutil find a socket's process by the links in /proc/PID/fd alone.
#
# Seen on: Linux 6.18.44, liburing 2026.3.30 (PyPI), iproute2 6.1.0-3 (Debian 12), psutil 7.2.2, Python 3.11.7.
# Output (the inode varies):
#
#   ordinary socket: ss names it: yes, psutil names it: yes, /proc/PID/fd has it: yes
#   direct descriptor: ss names it: no, psutil names it: no, /proc/PID/fd has it: no, /proc/PID/task/*/fd has it: no
#   /proc/PID/fdinfo/RING, under UserFiles: "0: socket:[24383382]"
#   state by ss: ESTAB; sent through it: b'hello'
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays in a network namespace of its own.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

((EUID == 0)) || cannot "not root"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
{ python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet liburing==2026.3.30 psutil==7.2.2; } >"$work/log" 2>&1 ||
    cannot "pip: $(tail -n 1 "$work/log")"
(cd -- "$work" && apt-get download -q iproute2=6.1.0-3 && dpkg-deb -x ./iproute2_*.deb iproute2) >"$work/log" 2>&1 ||
    cannot "apt: $(tail -n 1 "$work/log")"
"$work/iproute2/bin/ss" -V >"$work/log" 2>&1 || cannot "ss: $(tail -n 1 "$work/log")"
unshare -n true 2>/dev/null || cannot "no network namespace can be made"

PATH=$work/iproute2/bin:$PATH timeout 60 unshare -n bash -c 'ip link set lo up && exec "$0" -' "$work/venv/bin/python" <<'EOF'
import glob
import os
import re
import socket
import subprocess
import sys

import liburing
import psutil


def submit(ring, prepare, flags=0):
    """Hands one operation to the kernel, waits for it, and returns its result."""
    entry = liburing.io_uring_get_sqe(ring)
    prepare(entry)
    liburing.io_uring_sqe_set_flags(entry, flags)
    liburing.io_uring_submit(ring)
    done = liburing.Cqe()
    liburing.io_uring_wait_cqe(ring, done)
    result = done[0].res
    liburing.io_uring_cq_advance(ring, 1)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def links(pattern):
    for path in glob.glob(pattern):
        try:
            yield os.readlink(path)
        except FileNotFoundError:  # the descriptor by which the folder itself was read
            pass


def named(port):
    ss = subprocess.run(["ss", "-Htnpe", "sport", "=", f":{port}"], capture_output=True, text=True, check=True).stdout
    rows = [row for row in psutil.net_connections("tcp") if row.laddr.port == port]
    assert len(rows) == 1, rows
    return ss, f"pid={os.getpid()}," in ss, rows[0].pid == os.getpid()


def word(answer):
    return "yes" if answer else "no"


ring = liburing.Ring()
try:
    liburing.io_uring_queue_init(8, ring)
except OSError as error:
    print("cannot be tried here: io_uring:", error)
    sys.exit(2)
fds, tasks = f"/proc/{os.getpid()}/fd/*", f"/proc/{os.getpid()}/task/*/fd/*"
server = socket.create_server(("127.0.0.1", 0))
address = server.getsockname()

ordinary = socket.create_connection(address)
_, by_ss, by_psutil = named(ordinary.getsockname()[1])
in_fd = f"socket:[{os.fstat(ordinary.fileno()).st_ino}]" in links(fds)
plain = (by_ss, by_psutil, in_fd)
ordinary_accepted = server.accept()[0]
print(f"ordinary socket: ss names it: {word(by_ss)}, psutil names it: {word(by_psutil)}, /proc/PID/fd has it: {word(in_fd)}")

try:
    liburing.io_uring_register_files_sparse(ring, 4)
    submit(ring, lambda entry: liburing.io_uring_prep_socket_direct(entry, socket.AF_INET, socket.SOCK_STREAM, 0, 0))
except OSError as error:
    print("cannot be tried here: no direct socket:", error)
    sys.exit(2)
peer = liburing.Sockaddr(socket.AF_INET, *address)
fixed = liburing.IOSQE_FIXED_FILE
submit(ring, lambda entry: liburing.io_uring_prep_connect(entry, 0, peer), fixed)
accepted, (_, port) = server.accept()
submit(ring, lambda entry: liburing.io_uring_prep_send(entry, 0, b"hello"), fixed)
received = accepted.recv(5)

ss, by_ss, by_psutil = named(port)
inode = re.search(r"\bino:(\d+)", ss)
link = f"socket:[{inode[1]}]" if inode else "no inode"
in_fd, in_tasks = link in links(fds), link in links(tasks)
print(
    f"direct descriptor: ss names it: {word(by_ss)}, psutil names it: {word(by_psutil)}, "
    f"/proc/PID/fd has it: {word(in_fd)}, /proc/PID/task/*/fd has it: {word(in_tasks)}"
)
with open(f"/proc/self/fdinfo/{ring.ring_fd}") as file:
    listed = [line.strip() for line in file if link in line]
print("/proc/PID/fdinfo/RING, under UserFiles:", ", ".join(f'"{line}"' for line in listed) or "nothing")
print(f"state by ss: {ss.split()[0]}; sent through it: {received}")
stated = (
    plain == (True, True, True)
    and not (by_ss or by_psutil or in_fd or in_tasks)
    and listed == [f"0: {link}"]
    and ss.startswith("ESTAB")
    and received == b"hello"
)
print("as stated" if stated else "not as stated")
liburing.io_uring_queue_exit(ring)
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
