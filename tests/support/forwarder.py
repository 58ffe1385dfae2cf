"""A path that delays: packets between two TUN devices, each in a namespace of its own, some of them late.

    python -I forwarder.py NS-PATH DEVICE NS-PATH DEVICE [--delay-ms 2] [--late-every 50 --late-ms 5 60]

Prints ``ready`` once the devices are there, and runs to the end of its input. Standard library only. A packet that is
late lets those behind it overtake: what netem would do, where the kernel has none.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import heapq
import os
import select
import struct
import sys
import time

CLONE_NEWNET = 0x40000000  # linux/sched.h
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65536
AT_ONCE = 64
"""Packets read in a row, so that those that wait are not forgotten."""

DATA = 200
"""Bytes: what is shorter is taken for an acknowledgement, and never late."""


def open_tun(ns: str, device: str) -> int:
    """A new TUN device in the namespace at this path; this process stays in there."""
    with open(ns, "rb") as handle:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {ns}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Path:
    """What is under way. ``late_every`` counts the data that goes from the first device to the second; 0: never."""

    def __init__(self, tuns: tuple[int, int], delay_s: float, late_every: int, late_s: tuple[float, float]) -> None:
        self.tuns = tuns
        self.delay_s = delay_s
        self.late_every = late_every
        self.late_s = late_s
        self.under_way: list[tuple[float, int, int, bytes]] = []
        self.taken = self.data = 0

    def take(self, tun: int) -> None:
        """Read what has come to a device."""
        there = self.tuns[1] if tun == self.tuns[0] else self.tuns[0]
        for _ in range(AT_ONCE):
            try:
                packet = os.read(tun, PACKET)
            except BlockingIOError:
                return
            self.taken += 1
            due = time.monotonic() + self.delay_s + (self.lateness(packet) if tun == self.tuns[0] else 0.0)
            heapq.heappush(self.under_way, (due, self.taken, there, packet))

    def lateness(self, packet: bytes) -> float:
        """Seconds; each of eight steps in its turn, so that no chance is in it."""
        if not self.late_every or len(packet) < DATA:
            return 0.0
        self.data += 1
        if self.data % self.late_every:
            return 0.0
        low, high = self.late_s
        return low + (high - low) * (self.data // self.late_every % 8) / 7

    def deliver(self) -> float | None:
        """Hand over what is due; how long until the next is, seconds."""
        while self.under_way:
            wait = self.under_way[0][0] - time.monotonic()
            if wait > 0:
                return wait
            _, _, there, packet = heapq.heappop(self.under_way)
            try:
                os.write(there, packet)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.EAGAIN):  # that device is not up yet; its queue is full
                    raise
        return None


def main() -> None:
    with contextlib.suppress(OSError):  # a path whose processor is busy elsewhere has another delay
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ends", nargs=4, metavar="NS-PATH|DEVICE")
    parser.add_argument("--delay-ms", type=float, default=2.0)
    parser.add_argument("--late-every", type=int, default=0)
    parser.add_argument("--late-ms", type=float, nargs=2, default=(0.0, 0.0))
    args = parser.parse_args()
    one, first, other, second = args.ends
    tuns = open_tun(one, first), open_tun(other, second)
    low, high = args.late_ms
    path = Path(tuns, args.delay_ms / 1000, args.late_every, (low / 1000, high / 1000))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([*tuns, sys.stdin], [], [], path.deliver())
        if sys.stdin in ready:
            return
        for tun in tuns:
            if tun in ready:
                path.take(tun)


if __name__ == "__main__":
    main()
