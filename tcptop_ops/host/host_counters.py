"""Reading what the kernel counts for the host as a whole: three small files a tick, and the limits every ten seconds.

All of them may be read by anyone. tcp_mem and tcp_max_orphans are shown in the first network namespace alone
(ipv4_table, net/ipv4/sysctl_net_ipv4.c): in any other, as in a container, they are not known.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

import numpy as np

from tcptop_ops.model.host_counters import HOST, LIMITS
from tcptop_ops.model.records import Records

LIMITS_S = 10.0
"""How old limits may become, seconds."""

_TCP = {b"mem": "tcp_mem_pages", b"alloc": "sockets", b"orphan": "orphans"}
_COUNTED = ("net/sockstat", "net/softnet_stat", "sys/fs/file-nr")
_BYTES = 1 << 17  # softnet_stat has a line of 136 bytes a processor


class HostCounters:
    """Reads HOST. Used by one thread."""

    def __init__(self, proc: str = "/proc") -> None:
        """Open what is read at each tick. ``proc``: where procfs is mounted."""
        self._proc = proc
        self._fds: list[int] = []
        self._limits: dict[str, int] = {}
        self._limits_s = -LIMITS_S
        with suppress(OSError):
            for name in _COUNTED:
                self._fds.append(os.open(f"{proc}/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def read(self) -> Records:
        """Return the HOST row of now, as an array of length 1; of length 0 where a file can't be read."""
        now = time.monotonic()
        try:
            if len(self._fds) < len(_COUNTED):
                return np.zeros(0, HOST)
            sockstat, softnet, files = (os.pread(fd, _BYTES, 0) for fd in self._fds)
        except OSError:
            return np.zeros(0, HOST)
        if now - self._limits_s >= LIMITS_S:
            self._limits, self._limits_s = self._read_limits(), now
        row = np.zeros(1, HOST)
        for name, value in (parse_sockstat(sockstat) | parse_softnet(softnet) | parse_files(files)).items():
            row[name] = value
        for name, value in self._limits.items():
            row[name] = value
        return row

    def _read_limits(self) -> dict[str, int]:
        memory = _numbers(f"{self._proc}/sys/net/ipv4/tcp_mem")
        orphans = _numbers(f"{self._proc}/sys/net/ipv4/tcp_max_orphans")
        return dict(zip(LIMITS, [*(memory if len(memory) == 3 else [0, 0, 0]), *(orphans or [0])], strict=False))

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        while self._fds:
            os.close(self._fds.pop())


def _numbers(path: str) -> list[int]:
    with suppress(OSError), open(path, "rb") as file:
        return [int(word) for word in file.read().split()]
    return []


def parse_sockstat(text: bytes) -> dict[str, int]:
    """Return memory, sockets and orphans of /proc/net/sockstat."""
    for line in text.split(b"\n"):
        if line.startswith(b"TCP:"):
            words = line.split()
            told = dict(zip(words[1::2], words[2::2], strict=False))
            return {name: int(told.get(theirs, 0)) for theirs, name in _TCP.items()}
    return {}


def parse_softnet(text: bytes) -> dict[str, int]:
    """Return the sums of the first two columns of /proc/net/softnet_stat, which are in hexadecimal digits."""
    lines = [line.split(None, 2) for line in text.splitlines()]
    return {
        "backlog_packets": sum(int(words[0], 16) for words in lines),
        "backlog_drops": sum(int(words[1], 16) for words in lines),
    }


def parse_files(text: bytes) -> dict[str, int]:
    """Return the open files and their limit of /proc/sys/fs/file-nr: allocated, unused (always 0), most."""
    words = text.split()
    return {"files": int(words[0]), "max_files": int(words[-1])} if words else {}
