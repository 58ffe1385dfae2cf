#!/bin/bash
# Surprise: a connection can be open in a living, ordinary process, while neither `ss -p` nor psutil.net_connections()
# names a process for it, even as root. The thread that opened it has a file table of its own: unshare(CLONE_FILES),
# which needs no privilege. A connection that another thread of the same process opened is named.
#
# Why: /proc/PID/fd shows the file table of the thread group's leader (proc_pid_readdir() lists leaders; the table is the
# task's: proc_readfd_common()). ss and psutil walk /proc/PID/fd for each process. What another thread
# has alone is in /proc/PID/task/TID/fd, where nobody looks.
#
# Seen on: Linux 6.18.44, iproute2 6.1.0-3 (Debian 12), psutil 7.2.2, Python 3.11.7. Output:
#
#   socket of an ordinary thread: ss names it: yes, psutil names it: yes, /proc/PID/fd has it: yes, /proc/PID/task/TID/fd has it: yes
#   socket of a thread with its own files: ss names it: no, psutil names it: no, /proc/PID/fd has it: no, /proc/PID/task/TID/fd has it: yes
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here. All traffic stays in a network namespace of its own.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

((EUID == 0)) || cannot "not root"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
{ python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet psutil==7.2.2; } >"$work/log" 2>&1 ||
    cannot "pip: $(tail -n 1 "$work/log")"
(cd -- "$work" && apt-get download -q iproute2=6.1.0-3 && dpkg-deb -x ./iproute2_*.deb iproute2) >"$work/log" 2>&1 ||
    cannot "apt: $(tail -n 1 "$work/log")"
"$work/iproute2/bin/ss" -V >"$work/log" 2>&1 || cannot "ss: $(tail -n 1 "$work/log")"
unshare -n true 2>/dev/null || cannot "no network namespace can be made"

PATH=$work/iproute2/bin:$PATH timeout 60 unshare -n bash -c 'ip link set lo up && exec "$0" -' "$work/venv/bin/python" <<'EOF'
import ctypes
import os
import socket
import subprocess
import sys
import threading

import psutil

CLONE_FILES = 0x400
libc = ctypes.CDLL(None, use_errno=True)


class Opener(threading.Thread):
    """Opens one connection, and keeps it until it is told to stop."""

    def __init__(self, port, own_files):
        super().__init__()
        self.port, self.own_files = port, own_files
        self.ready, self.stop = threading.Event(), threading.Event()
        self.local_port = self.inode = self.error = None

    def run(self):
        if self.own_files and libc.unshare(CLONE_FILES):
            self.error = os.strerror(ctypes.get_errno())
            self.ready.set()
            return
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            self.local_port = connection.getsockname()[1]
            self.inode = os.fstat(connection.fileno()).st_ino
            self.ready.set()
            self.stop.wait()


def holds(folder, inode):
    links = set()
    for name in os.listdir(folder):
        try:
            links.add(os.readlink(f"{folder}/{name}"))
        except FileNotFoundError:  # the descriptor by which the folder itself is read
            pass
    return f"socket:[{inode}]" in links


def look(thread):
    ss = subprocess.run(["ss", "-Htnp", "sport", "=", f":{thread.local_port}"], capture_output=True, text=True, check=True).stdout
    by_psutil = [row for row in psutil.net_connections("tcp") if row.laddr.port == thread.local_port]
    assert ss.startswith("ESTAB") and len(by_psutil) == 1, (ss, by_psutil)
    return (
        f"pid={os.getpid()}," in ss,
        by_psutil[0].pid == os.getpid(),
        holds(f"/proc/{os.getpid()}/fd", thread.inode),
        holds(f"/proc/{os.getpid()}/task/{thread.native_id}/fd", thread.inode),
    )


def tell(what, answers):
    places = ("ss names it", "psutil names it", "/proc/PID/fd has it", "/proc/PID/task/TID/fd has it")
    print(f"{what}:", ", ".join(f"{place}: {'yes' if answer else 'no'}" for place, answer in zip(places, answers)))


server = socket.create_server(("127.0.0.1", 0))
threads = [Opener(server.getsockname()[1], own_files) for own_files in (False, True)]
accepted = []
# The second thread is started first: it would otherwise keep a copy of the first one's descriptor.
for thread in reversed(threads):
    thread.start()
    thread.ready.wait()
    if thread.error:
        print("cannot be tried here: unshare:", thread.error)
        sys.exit(2)
    accepted.append(server.accept()[0])
ordinary, own = map(look, threads)
for thread in threads:
    thread.stop.set()
    thread.join()
tell("socket of an ordinary thread", ordinary)
tell("socket of a thread with its own files", own)
stated = ordinary == (True, True, True, True) and own == (False, False, False, True)
print("as stated" if stated else "not as stated")
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
